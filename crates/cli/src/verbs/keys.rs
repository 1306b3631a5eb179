//! `key`: API keys of the bridge. A new one is printed once, alone on stdout, and kept nowhere here.

use api::wire::{CreateKey, RotateKey};
use http::Method;
use serde_json::{Value, json};

use super::{Desk, facts, text};
use crate::ask::Ask;
use crate::bridge::segment;
use crate::failure::Failure;
use crate::options::Key;
use crate::output::Mode;
use crate::screen;

/// Runs one of the key verbs.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn run(desk: &Desk, verb: &Key) -> Result<(), Failure> {
    match verb {
        Key::List => {
            let ask = Ask::get("/v1/keys").query("limit", Some("500"));
            let body = desk.ask(ask).await?.value()?;
            desk.output.list("keys", &body, line)
        }
        Key::Create {
            user,
            only,
            scope,
            expires,
            name,
        } => {
            let wish = json!(CreateKey {
                user: user.clone(),
                workspaces: only.clone(),
                scopes: scope.clone(),
                expires_in_s: expires.map(|after| after.as_secs().max(1)),
                name: name.clone(),
            });
            let made = show(desk, Ask::post("/v1/keys", wish.to_string().into_bytes())).await;
            made.map_err(|mut failure| {
                if failure.code == "resource_not_found" && failure.hint.is_none() {
                    failure.hint = Some(format!(
                        "`paperbot-mcp user create {user}` makes the user; `user list` lists all"
                    ));
                }
                failure
            })
        }
        Key::Rotate { id, overlap, now } => {
            let wish = json!(RotateKey {
                overlap_s: if *now {
                    Some(0)
                } else {
                    overlap.map(|overlap| overlap.as_secs())
                },
            });
            let path = format!("/v1/keys/{}/rotate", segment(id));
            show(desk, Ask::post(path, wish.to_string().into_bytes())).await
        }
        Key::Revoke { id } => {
            let ask = Ask::get(format!("/v1/keys/{}", segment(id))).method(Method::DELETE);
            desk.ask(ask).await?;
            desk.output.note(&format!("{id} is revoked"));
            Ok(())
        }
    }
}

async fn show(desk: &Desk, ask: Ask) -> Result<(), Failure> {
    let body = desk.ask(ask).await?.value()?;
    if desk.output.mode != Mode::Text {
        return desk.output.json("key", &body.to_string());
    }
    desk.output.note("the bridge shows this key once");
    desk.output.raw_line(&screen::one_line(text(&body, "key")))
}

fn line(key: &Value) -> String {
    let head = [text(key, "key_id"), text(key, "user")];
    let rest = facts(
        key,
        &[
            "name",
            "workspaces",
            "scopes",
            "created_at",
            "last_used_at",
            "expires_at",
            "revoked_at",
        ],
    );
    format!("{}  {rest}", head.map(screen::one_line).join("  "))
}
