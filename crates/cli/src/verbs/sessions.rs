//! `session`: the bridge's connections, which open by themselves when a tool is called.

use api::wire::OpenSession;
use http::Method;
use serde_json::{Value, json};

use super::{Desk, facts, text};
use crate::ask::{Ask, LONG_WAIT};
use crate::bridge::segment;
use crate::failure::Failure;
use crate::options::Session;
use crate::output::Mode;
use crate::screen;

/// Runs one of the session verbs.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn run(desk: &Desk, verb: &Session) -> Result<(), Failure> {
    match verb {
        Session::Open { server, lane, ttl } => {
            let body = json!(OpenSession {
                server: server.clone(),
                lane: lane.clone(),
                ttl_s: ttl.map(|ttl| ttl.as_secs().max(1)),
            });
            let body = body.to_string().into_bytes();
            show(desk, Ask::post("/v1/sessions", body).wait(LONG_WAIT)).await
        }
        Session::List => {
            let ask = Ask::get("/v1/sessions").query("limit", Some("500"));
            let body = desk.ask(ask).await?.value()?;
            desk.output.list("sessions", &body, line)
        }
        Session::Inspect { id } => {
            let ask = Ask::get(path(id, ""));
            desk.ask_and_show(ask, "session").await.map(drop)
        }
        Session::Close { id } => {
            let ask = Ask::get(path(id, ""))
                .method(Method::DELETE)
                .wait(LONG_WAIT);
            desk.ask(ask).await?;
            desk.output.note(&format!("{id} is closed"));
            Ok(())
        }
        Session::Refresh { id } => {
            show(
                desk,
                Ask::post(path(id, "/refresh"), b"{}".to_vec()).wait(LONG_WAIT),
            )
            .await
        }
    }
}

async fn show(desk: &Desk, ask: Ask) -> Result<(), Failure> {
    let body = desk.ask(ask).await?.value()?;
    match desk.output.mode {
        Mode::Text => desk.output.text("session", &line(&body)),
        _ => desk.output.json("session", &body.to_string()),
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("/v1/sessions/{}{rest}", segment(id))
}

fn line(session: &Value) -> String {
    let head = [
        text(session, "session_id"),
        text(session, "server"),
        text(session, "state"),
    ];
    let rest = facts(
        session,
        &[
            "isolation",
            "user",
            "lane",
            "era",
            "transport",
            "in_flight",
            "reconnects",
            "last_error",
        ],
    );
    format!("{}  {rest}", head.map(screen::one_line).join("  "))
}
