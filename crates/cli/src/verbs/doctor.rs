//! `doctor`: what is wrong and what to do about it. Looks only; repairs nothing.

use serde_json::{Value, json};

use super::servers::states;
use super::{Desk, text};
use crate::ask::Ask;
use crate::failure::Failure;
use crate::output::Mode;
use crate::screen;

/// One thing looked at.
#[derive(Debug)]
struct Finding {
    what: String,
    well: bool,
    told: String,
    advice: Option<String>,
    exit: u8,
}

impl Finding {
    fn well(what: impl Into<String>, told: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            well: true,
            told: told.into(),
            advice: None,
            exit: 0,
        }
    }

    fn wrong(what: impl Into<String>, told: impl Into<String>, advice: &str, exit: u8) -> Self {
        Self {
            well: false,
            advice: Some(advice.to_owned()),
            exit,
            ..Self::well(what, told)
        }
    }

    fn line(&self) -> String {
        let mark = if self.well { "ok   " } else { "WRONG" };
        let advice = self
            .advice
            .as_ref()
            .map_or_else(String::new, |advice| format!(" -> {advice}"));
        format!(
            "{mark} {}: {}{advice}",
            self.what,
            screen::one_line(&self.told)
        )
    }

    fn document(&self) -> Value {
        json!({"check": self.what, "ok": self.well, "detail": self.told, "advice": self.advice})
    }
}

/// Looks at the bridge, the credential and each server.
///
/// # Errors
/// `not_well` with the exit code of the first thing wrong.
pub(crate) async fn doctor(desk: &Desk) -> Result<(), Failure> {
    let findings = look(desk).await;
    match desk.output.mode {
        Mode::Text => {
            let lines: Vec<String> = findings.iter().map(Finding::line).collect();
            desk.output.text("doctor", &lines.join("\n"))?;
        }
        Mode::Json => {
            let well = findings.iter().all(|finding| finding.well);
            let all: Vec<Value> = findings.iter().map(Finding::document).collect();
            desk.output
                .json("doctor", &json!({"ok": well, "checks": all}).to_string())?;
        }
        Mode::JsonLines => {
            for finding in &findings {
                desk.output.raw_line(&finding.document().to_string())?;
            }
        }
    }
    let wrong: Vec<&Finding> = findings.iter().filter(|finding| !finding.well).collect();
    match wrong.first() {
        None => Ok(()),
        Some(first) => {
            let names: Vec<&str> = wrong.iter().map(|finding| finding.what.as_str()).collect();
            let mut failure =
                Failure::not_well(first.exit, format!("not well: {}", names.join(", ")));
            failure.hint.clone_from(&first.advice);
            Err(failure)
        }
    }
}

/// Each step needs the one before it.
async fn look(desk: &Desk) -> Vec<Finding> {
    let mut findings = vec![reachable(desk).await];
    if findings.iter().any(|finding| !finding.well) {
        return findings;
    }
    findings.push(credential(desk).await);
    if findings.iter().any(|finding| !finding.well) {
        return findings;
    }
    findings.push(version(desk).await);
    match states(desk).await {
        Ok(states) if states.is_empty() => findings.push(Finding::wrong(
            "servers",
            "there is none",
            "add one: `paperbot-mcp server add NAME -- COMMAND` or `servers:` in the bridge's file",
            6,
        )),
        Ok(states) => findings.extend(states.iter().map(server)),
        Err(failure) => findings.push(Finding::wrong(
            "servers",
            failure.message,
            "see the bridge's log under this trace",
            failure.exit,
        )),
    }
    findings
}

async fn reachable(desk: &Desk) -> Finding {
    let settings = desk.bridge.settings();
    let shown = settings.url.to_string();
    // Without the token: whether it is valid is the next question, with its own advice.
    match desk.bridge.anonymous().ask(Ask::get("/healthz")).await {
        Ok(_) if settings.url.scheme() == "http" && !settings.is_local() => Finding::wrong(
            "bridge",
            format!("{shown} answers, but the token travels unencrypted"),
            "use https, or a tunnel to loopback",
            2,
        ),
        Ok(_) => Finding::well("bridge", format!("{shown} answers")),
        Err(failure) => {
            let advice = failure.hint.clone().unwrap_or_default();
            Finding::wrong("bridge", failure.message, &advice, failure.exit)
        }
    }
}

async fn credential(desk: &Desk) -> Finding {
    let source = &desk.bridge.settings().token_source;
    match desk
        .ask(Ask::get("/v1/me"))
        .await
        .and_then(|answer| answer.value())
    {
        Ok(me) => Finding::well("credential", format!("{} by {source}", text(&me, "user"))),
        Err(failure) if failure.exit == 3 => Finding::wrong(
            "credential",
            failure.message,
            &desk.bridge.settings().credential_advice(),
            3,
        ),
        Err(failure) => Finding::wrong(
            "credential",
            failure.message,
            "see the bridge's log under this trace",
            failure.exit,
        ),
    }
}

async fn version(desk: &Desk) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let answer = desk.ask(Ask::get("/v1/version")).await;
    match answer.and_then(|answer| answer.value()) {
        Ok(body) if text(&body, "version") == own => Finding::well("version", own),
        Ok(body) => Finding::wrong(
            "version",
            format!(
                "the bridge is {}, this program {own}",
                text(&body, "version")
            ),
            "install the same version of both",
            1,
        ),
        Err(failure) => Finding::wrong(
            "version",
            failure.message,
            "is this a PaperBot bridge?",
            failure.exit,
        ),
    }
}

fn server(state: &Value) -> Finding {
    let name = format!("server {}", text(state, "server"));
    let why = ["last_error", "truncated", "detail"]
        .iter()
        .map(|member| text(state, member))
        .find(|why| !why.is_empty())
        .unwrap_or("no reason given");
    let word = text(state, "state");
    let tools = state
        .get("tools")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    match word {
        "disabled" => Finding::well(name, "disabled by its definition"),
        "needs_auth" => Finding::wrong(
            name,
            format!("needs_auth: {why}"),
            "set the secret its definition names and restart or reload the bridge",
            3,
        ),
        "opening" | "starting" => Finding::wrong(
            name,
            "starting",
            "ask again in a moment; if it stays so, its command or URL hangs",
            9,
        ),
        "stale" => Finding::wrong(
            name,
            format!("down, its last known {tools} tools are shown: {why}"),
            "`paperbot-mcp server test` shows the cause",
            4,
        ),
        "slow" | "degraded" => Finding::wrong(
            name,
            format!("slow: {why}"),
            "look at its session: `paperbot-mcp session list`",
            9,
        ),
        "down" => Finding::wrong(
            name,
            format!("down: {why}"),
            "`paperbot-mcp server test` shows the cause; check its command or URL",
            4,
        ),
        other => Finding::well(name, format!("{other}, {tools} tools")),
    }
}
