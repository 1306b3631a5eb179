//! What `/mcp` lists by itself, and how it explains itself. Held to a budget of tokens by a test.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;

/// The tools that reach everything, in the order they are listed: discovery, then the rest.
const DISCOVERY: &str = r#"{"name":"find_tools","description":"Search the tools of all servers. One line each: ref(arguments) -> result - summary. Several phrasings find more; no query lists all.","inputSchema":{"type":"object","properties":{"queries":{"type":"array","items":{"type":"string"}},"server":{"type":"string"},"limit":{"type":"integer","minimum":1,"maximum":50,"default":10}}},"annotations":{"readOnlyHint":true}},{"name":"get_tool_help","description":"Whole definitions of tools, when the line of find_tools is not enough.","inputSchema":{"type":"object","properties":{"refs":{"type":"array","items":{"type":"string"}},"if_hash":{"type":"array","items":{"type":"string"},"description":"Hashes you know: those answer unchanged"}},"required":["refs"]},"annotations":{"readOnlyHint":true}},{"name":"call_tool","description":"Run a tool. A failure says how to repair the call and whether anything was executed.","inputSchema":{"type":"object","properties":{"ref":{"type":"string","description":"server.tool"},"arguments":{"type":"object"},"schema_hash":{"type":"string","description":"Refuse if the definition changed"},"confirm_token":{"type":"string","description":"From an approval"}},"required":["ref"]}}"#;
/// Resources and prompts.
pub(super) const OFFERS: &str = r#"{"name":"list_resources","description":"Resources and URI templates of the servers.","inputSchema":{"type":"object","properties":{"server":{"type":"string"},"cursor":{"type":"string"}}},"annotations":{"readOnlyHint":true}},{"name":"read_resource","description":"Read a resource.","inputSchema":{"type":"object","properties":{"server":{"type":"string"},"uri":{"type":"string"}},"required":["server","uri"]},"annotations":{"readOnlyHint":true}},{"name":"list_prompts","description":"Prompts of the servers.","inputSchema":{"type":"object","properties":{"server":{"type":"string"},"cursor":{"type":"string"}}},"annotations":{"readOnlyHint":true}},{"name":"get_prompt","description":"Get a prompt's messages.","inputSchema":{"type":"object","properties":{"ref":{"type":"string","description":"server.prompt"},"arguments":{"type":"object","additionalProperties":{"type":"string"}}},"required":["ref"]},"annotations":{"readOnlyHint":true}}"#;

/// That `call_tool`, the last tool of [`DISCOVERY`], may be run as a task (2025-11-25).
const AS_TASK: &str = r#","execution":{"taskSupport":"optional"}}"#;

/// The tools that reach every tool.
pub(super) fn discovery(as_tasks: bool) -> Cow<'static, str> {
    match DISCOVERY.strip_suffix('}') {
        Some(open) if as_tasks => Cow::Owned(format!("{open}{AS_TASK}")),
        _ => Cow::Borrowed(DISCOVERY),
    }
}

/// Whether a name is that of a tool of ours that is answered at once, and never a task.
pub(super) fn runs_at_once(name: &str) -> bool {
    name != "call_tool" && signature(name).is_some()
}

/// Bytes of server names in the instructions.
const NAMES_BYTES: usize = 300;

/// What a model is told when tools are found, not listed.
pub(super) fn instructions(servers: &[String]) -> String {
    let mut text = String::from(
        "The tools of several servers stand behind this endpoint. Say what you need to find_tools, then run \
         what it finds with call_tool; its line of find_tools is usually all you need to know. Names of \
         tools are refs: server.tool.",
    );
    let (names, more) = names(servers);
    if !names.is_empty() {
        text.push_str(" Servers: ");
        text.push_str(&names);
        if more > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, " and {more} more");
        }
        text.push('.');
    }
    text
}

/// As many names as fit, and how many do not.
fn names(servers: &[String]) -> (String, usize) {
    let mut text = String::new();
    for (at, name) in servers.iter().enumerate() {
        if text.len() + name.len() + 2 > NAMES_BYTES {
            return (text, servers.len() - at);
        }
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(name);
    }
    (text, 0)
}

/// Arguments of `find_tools`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FindTools {
    pub(super) queries: Vec<String>,
    pub(super) server: Option<String>,
    pub(super) limit: Option<usize>,
}

/// Arguments of `get_tool_help`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetToolHelp {
    pub(super) refs: Vec<String>,
    #[serde(default)]
    pub(super) if_hash: Vec<String>,
}

/// Arguments of `call_tool`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallAny {
    #[serde(rename = "ref")]
    pub(super) reference: String,
    #[serde(default)]
    pub(super) arguments: Option<Box<serde_json::value::RawValue>>,
    #[serde(default)]
    pub(super) schema_hash: Option<String>,
    #[serde(default)]
    pub(super) confirm_token: Option<String>,
}

/// Arguments of `list_resources` and `list_prompts`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListOffers {
    pub(super) server: Option<String>,
    pub(super) cursor: Option<String>,
}

/// Arguments of `read_resource`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadAny {
    pub(super) server: String,
    pub(super) uri: String,
}

/// Arguments of `get_prompt`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetAnyPrompt {
    #[serde(rename = "ref")]
    pub(super) reference: String,
    #[serde(default)]
    pub(super) arguments: Option<Box<serde_json::value::RawValue>>,
}

/// How a tool of ours is called, for whoever called it wrongly.
pub(super) fn signature(tool: &str) -> Option<&'static str> {
    Some(match tool {
        "find_tools" => "find_tools(queries?: string[], server?: string, limit?: integer)",
        "get_tool_help" => "get_tool_help(refs: string[], if_hash?: string[])",
        "call_tool" => {
            "call_tool(ref: string, arguments?: object, schema_hash?: string, confirm_token?: string)"
        }
        "list_resources" => "list_resources(server?: string, cursor?: string)",
        "read_resource" => "read_resource(server: string, uri: string)",
        "list_prompts" => "list_prompts(server?: string, cursor?: string)",
        "get_prompt" => "get_prompt(ref: string, arguments?: object)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens a host pays for in every conversation, whatever stands behind.
    const BUDGET: usize = 1000;

    #[test]
    fn tools_and_instructions_stay_within_the_budget() {
        let servers: Vec<String> = (0..500).map(|n| format!("server-{n}")).collect();
        let whole = format!("[{},{OFFERS}]{}", discovery(true), instructions(&servers));
        let tokens = tiktoken_rs::o200k_base()
            .unwrap()
            .encode_ordinary(&whole)
            .len();
        assert!(tokens <= BUDGET, "{tokens} tokens");
    }

    #[test]
    fn every_tool_listed_has_a_signature_and_well_formed_schema() {
        let listed: serde_json::Value =
            serde_json::from_str(&format!("[{},{OFFERS}]", discovery(true))).unwrap();
        assert_eq!(listed[2]["execution"]["taskSupport"], "optional");
        for tool in listed.as_array().unwrap() {
            let name = tool["name"].as_str().unwrap();
            let signature = signature(name).unwrap();
            for argument in tool["inputSchema"]["properties"]
                .as_object()
                .unwrap()
                .keys()
            {
                assert!(signature.contains(argument.as_str()), "{name} {argument}");
            }
        }
    }

    #[test]
    fn the_names_of_servers_are_cut_with_a_count() {
        let few = instructions(&["a".to_owned(), "b".to_owned()]);
        assert!(few.ends_with("Servers: a, b."), "{few}");
        let many: Vec<String> = (0..100).map(|n| format!("server-{n}")).collect();
        assert!(instructions(&many).ends_with(" more."));
        assert!(!instructions(&[]).contains("Servers"));
    }
}
