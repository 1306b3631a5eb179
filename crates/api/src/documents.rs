//! The contract for people: the page at `/docs`, and the generated tables in `docs/`.

use std::fmt::Write as _;

use broker::ErrorCode;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `GET`, …
    pub verb: &'static str,
    /// With its parameters in braces.
    pub path: String,
    /// Its `operationId`.
    pub operation: String,
    /// First line of its description.
    pub summary: String,
}

/// Every route of the document, by path.
#[must_use]
pub fn routes(document: &OpenApi) -> Vec<Route> {
    let verbs = |item: &PathItem| -> [(&'static str, Option<Operation>); 4] {
        [
            ("GET", item.get.clone()),
            ("POST", item.post.clone()),
            ("PUT", item.put.clone()),
            ("DELETE", item.delete.clone()),
        ]
    };
    let mut routes = Vec::new();
    for (path, item) in &document.paths.paths {
        for (verb, operation) in verbs(item) {
            let Some(operation) = operation else { continue };
            routes.push(Route {
                verb,
                path: path.clone(),
                operation: operation.operation_id.unwrap_or_default(),
                // A row of a table is one line.
                summary: operation
                    .summary
                    .or(operation.description)
                    .unwrap_or_default()
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" "),
            });
        }
    }
    routes
}

/// `docs/API.md`.
#[must_use]
pub fn api_table(document: &OpenApi) -> String {
    let mut text = String::from(
        "# Routes\n\nGenerated from the code; the whole contract with bodies is at `/openapi.json` of a running \
         bridge. Failures are listed in [ERRORS.md](ERRORS.md).\n\n| operationId | route | |\n|---|---|---|\n",
    );
    for route in routes(document) {
        let Route {
            verb,
            path,
            operation,
            summary,
        } = route;
        let _ = writeln!(text, "| `{operation}` | `{verb} {path}` | {summary} |");
    }
    text
}

/// `docs/ERRORS.md`.
#[must_use]
pub fn error_table() -> String {
    let mut text = String::from(
        "# Errors\n\nGenerated from `broker::ErrorCode`. Every failure is `application/problem+json` (RFC 9457) with \
         `code`, `retryable`, `executed` (`no`, `yes`, `unknown`: may the effect have happened?), `trace_id` and, \
         where there is one, a `hint`. The CLI adds codes of its own, which no bridge answers: `usage` (exit 2), \
         `bridge_unreachable` and `bridge_protocol` (4), `bridge_timeout` (8), `tool_error` (5), `local_io` (1) and \
         `not_well`.\n\n| code | title | HTTP | CLI exit | retryable |\n|---|---|---|---|---|\n",
    );
    for code in ErrorCode::ALL {
        let (status, exit) = code.row();
        let retryable = if code.retryable() { "yes" } else { "no" };
        let _ = writeln!(
            text,
            "| `{}` | {} | {status} | {exit} | {retryable} |",
            code.as_str(),
            code.title()
        );
    }
    text
}

/// `wire/codes.rs`.
#[must_use]
pub fn codes_source() -> String {
    let mut text = String::from(
        "//! Codes and the CLI's exit codes. Generated from `broker::ErrorCode`; do not edit, run the tests with\n\
         //! `UPDATE_GENERATED=1`.\n\n\
         /// Every code of the bridge with the exit code of the CLI, in the order of `docs/ERRORS.md`.\n\
         pub const EXIT_CODES: &[(&str, u8)] = &[\n",
    );
    for code in ErrorCode::ALL {
        let _ = writeln!(text, "    (\"{}\", {}),", code.as_str(), code.row().1);
    }
    text.push_str(
        "];\n\n\
         /// The CLI's exit code for a code of the bridge; `None` for a code this version does not know.\n\
         #[must_use]\n\
         pub fn exit_code(code: &str) -> Option<u8> {\n    \
             let row = EXIT_CODES.iter().find(|(name, _)| *name == code)?;\n    \
             Some(row.1)\n\
         }\n",
    );
    text
}

/// The page at `/docs`: loads nothing, runs nothing.
#[must_use]
pub fn page(document: &OpenApi) -> String {
    let mut rows = String::new();
    for route in routes(document) {
        let _ = writeln!(
            rows,
            "<tr><td><code>{}</code></td><td><code>{} {}</code></td><td>{}</td></tr>",
            escaped(&route.operation),
            route.verb,
            escaped(&route.path),
            escaped(&route.summary)
        );
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>PaperBot MCP Bridge</title>\
         <style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}}\
         table{{border-collapse:collapse;width:100%}}td,th{{border-bottom:1px solid #ddd;padding:.4rem;text-align:left}}\
         </style><h1>PaperBot MCP Bridge</h1><p>Version {}. Every route but the health checks wants \
         <code>Authorization: Bearer &lt;key&gt;</code>. The machine-readable contract is at \
         <a href=\"/openapi.json\">/openapi.json</a>.</p>\
         <table><thead><tr><th>operation</th><th>route</th><th></th></tr></thead><tbody>{rows}</tbody></table></html>",
        env!("CARGO_PKG_VERSION")
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Compares a generated file with what the code says now; `UPDATE_GENERATED=1` rewrites it.
    fn holds(path: &str, generated: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, generated).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == generated,
            "{} is out of date: run the tests with UPDATE_GENERATED=1",
            path.display()
        );
    }

    #[test]
    fn the_route_table_is_what_the_code_serves() {
        holds("../../docs/API.md", &api_table(&crate::routes::all().1));
    }

    #[test]
    fn the_error_table_is_the_list_of_codes() {
        holds("../../docs/ERRORS.md", &error_table());
    }

    #[test]
    fn the_exit_codes_of_the_cli_are_the_list_of_codes() {
        holds("src/wire/codes.rs", &codes_source());
        for code in ErrorCode::ALL {
            assert_eq!(
                crate::wire::codes::exit_code(code.as_str()),
                Some(code.row().1)
            );
        }
        assert_eq!(crate::wire::codes::exit_code("nonsense"), None);
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_a_sentence() {
        let routes = routes(&crate::routes::all().1);
        let mut names: Vec<_> = routes
            .iter()
            .map(|route| route.operation.as_str())
            .collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
        for route in &routes {
            assert!(
                !route.operation.is_empty() && route.summary.ends_with('.'),
                "{route:?}"
            );
        }
        for seven in [
            "list_catalog",
            "get_tool_help",
            "call_tool",
            "list_resources",
            "read_resource",
            "list_prompts",
            "get_prompt",
        ] {
            assert!(names.contains(&seven), "{seven}");
        }
    }

    #[test]
    fn the_document_is_openapi_3_1_and_its_references_lead_somewhere() {
        let (_, document) = crate::routes::all();
        let document: serde_json::Value =
            serde_json::from_str(&document.to_json().unwrap()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut places = vec![&document];
        while let Some(place) = places.pop() {
            match place {
                serde_json::Value::Object(members) => {
                    if let Some(target) = members.get("$ref").and_then(|target| target.as_str()) {
                        assert!(document.pointer(&target[1..]).is_some(), "{target}");
                    }
                    places.extend(members.values());
                }
                serde_json::Value::Array(items) => places.extend(items),
                _ => {}
            }
        }
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let page = page(&crate::routes::all().1);
        assert!(
            !page.contains("http://") && !page.contains("https://") && !page.contains("<script")
        );
    }
}
