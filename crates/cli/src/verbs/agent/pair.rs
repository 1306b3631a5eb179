//! `agent pair`: a token without pasting one. This machine shows a code, somebody signed in confirms it, and
//! the bridge hands the token to whoever asked with the secret half of the pair.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::super::Desk;
use crate::agent::check::is_agent_id;
use crate::ask::Ask;
use crate::failure::{Executed, Failure};
use crate::files::{self, Access};
use crate::options::Pair;
use crate::output::Mode;

/// Pause between two looks whether somebody confirmed.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
/// A pair is confirmed within ten minutes or not at all; longer than that nobody waits.
const PATIENCE: Duration = Duration::from_mins(11);

#[derive(Deserialize)]
struct Opened {
    code: String,
    poll_token: String,
}

#[derive(Deserialize)]
struct Looked {
    status: String,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    tunnel_url: Option<String>,
}

/// Shows the code, waits for the confirmation and keeps the token.
///
/// # Errors
/// The bridge's; 8 when nobody confirmed in time.
pub(crate) async fn pair(desk: &Desk, options: &Pair) -> Result<(), Failure> {
    if let Some(id) = options.id.as_deref().filter(|id| !is_agent_id(id)) {
        return Err(Failure::usage(format!("`{id}` is no agent id"))
            .hint("3 to 64 of A-Z, a-z, 0-9, `_`, `-`, beginning with a letter or digit"));
    }
    let wish = json!({"agent_id": options.id, "label": options.label});
    let wish = wish.to_string().into_bytes();
    let opened: Opened = desk.ask(Ask::post("/v1/agents/pair", wish)).await?.read()?;
    desk.output.say(&format!(
        "the code is {}; somebody signed in to {} confirms it: paperbot-mcp agent confirm {}",
        opened.code,
        desk.bridge.settings().url,
        opened.code
    ));
    let approved = wait(desk, &opened.poll_token).await?;
    let (Some(id), Some(token)) = (approved.agent_id, approved.token) else {
        return Err(Failure::protocol("the bridge approved without a token"));
    };
    if !is_agent_id(&id) {
        return Err(Failure::protocol(
            "the bridge made an agent id that is none",
        ));
    }
    let path = match &options.save {
        Some(path) => path.clone(),
        None => desk.places.agent_tokens().join(format!("{id}.token")),
    };
    let path = std::path::absolute(&path)
        .map_err(|error| Failure::local_io(&path.display().to_string(), &error))?;
    files::replace(&path, format!("{token}\n").as_bytes(), Access::Secret)
        .map_err(|error| Failure::local_io(&path.display().to_string(), &error))?;
    let url = approved.tunnel_url.unwrap_or_default();
    told(desk, &Paired { id, url, path }, options)
}

async fn wait(desk: &Desk, poll_token: &str) -> Result<Looked, Failure> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let body = json!({"poll_token": poll_token}).to_string().into_bytes();
        let look = desk.ask(Ask::post("/v1/agents/pair/poll", body)).await;
        match look {
            Ok(answer) => {
                let looked: Looked = answer.read()?;
                match looked.status.as_str() {
                    "approved" => return Ok(looked),
                    "pending" => {}
                    _ => break,
                }
            }
            // A busy bridge, or one that is just being restarted, may answer the next look.
            Err(failure) if failure.retryable => {}
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let mut failure = Failure::usage("nobody confirmed the code in time")
        .executed(Executed::No)
        .hint("run `paperbot-mcp agent pair` again");
    "pairing_expired".clone_into(&mut failure.code);
    failure.exit = 8;
    Err(failure)
}

struct Paired {
    id: String,
    url: String,
    path: PathBuf,
}

/// The token's place and a first file; never the token.
fn told(desk: &Desk, paired: &Paired, options: &Pair) -> Result<(), Failure> {
    if desk.output.mode != Mode::Text {
        let document = json!({
            "agent_id": paired.id, "tunnel_url": paired.url, "token_file": paired.path,
        });
        return desk.output.raw_line(&document.to_string());
    }
    desk.output.note(&format!(
        "the token is in {}; a first file follows (keep it with `config apply --file FILE`, then `agent run`)",
        paired.path.display()
    ));
    desk.output
        .raw(first_file(paired, options.label.as_deref()).as_bytes())
}

fn first_file(paired: &Paired, label: Option<&str>) -> String {
    let text = |text: &str| json!(text).to_string();
    let path = |path: &Path| text(&path.display().to_string());
    let label = label.map(|label| format!("  label: {}\n", text(label)));
    format!(
        "version: 1\nserver:\n  url: {}\n  token_file: {}\nagent:\n  id: {}\n{}mcp_servers: []\n",
        text(&paired.url),
        path(&paired.path),
        text(&paired.id),
        label.unwrap_or_default(),
    )
}
