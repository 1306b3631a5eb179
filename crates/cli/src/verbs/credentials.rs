//! `credentials`: what there is for servers that want each user's own. Values never pass through here.

use api::wire::Authorize;
use http::Method;
use serde_json::{Value, json};

use super::{Desk, facts, text};
use crate::ask::Ask;
use crate::bridge::segment;
use crate::failure::Failure;
use crate::options::Credentials;
use crate::output::Mode;
use crate::screen;

/// Runs one of the verbs about credentials.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn run(desk: &Desk, verb: &Credentials) -> Result<(), Failure> {
    match verb {
        Credentials::List => {
            let body = desk.ask(Ask::get("/v1/credentials")).await?.value()?;
            desk.output.list("credentials", &body, line)
        }
        Credentials::Link { server, shared } => {
            let path = format!("/v1/credentials/{}/authorize", segment(server));
            let wish = json!(Authorize { shared: *shared });
            let ask = Ask::post(path, wish.to_string().into_bytes());
            let body = desk.ask(ask).await?.value()?;
            if desk.output.mode != Mode::Text {
                return desk.output.json("link", &body.to_string());
            }
            let until = screen::one_line(text(&body, "expires_at"));
            desk.output
                .note(&format!("open it in a browser before {until}"));
            desk.output.raw_line(&screen::one_line(text(&body, "url")))
        }
        Credentials::Remove { server, shared } => {
            let ask = Ask::get(format!("/v1/credentials/{}", segment(server)))
                .method(Method::DELETE)
                .query("shared", shared.then_some("true"));
            desk.ask(ask).await?;
            desk.output
                .note(&format!("the credentials for {server} are removed"));
            Ok(())
        }
    }
}

fn line(one: &Value) -> String {
    let whose = match one.get("shared") {
        Some(Value::Bool(true)) => "the workspace's",
        _ => "your own",
    };
    let grants = one.get("grants").and_then(Value::as_array);
    let grants: Vec<String> = grants
        .into_iter()
        .flatten()
        .map(|grant| {
            let rest = facts(grant, &["scope", "token_ends_at"]);
            let issuer = screen::one_line(text(grant, "issuer"));
            format!("granted by {issuer} {rest}").trim_end().to_owned()
        })
        .collect();
    let head = screen::one_line(text(one, "server"));
    let rest = facts(one, &["secrets", "updated_at"]);
    [vec![head, whose.to_owned(), rest], grants]
        .concat()
        .join("  ")
}
