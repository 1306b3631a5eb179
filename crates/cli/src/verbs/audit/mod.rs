//! `audit`: who did what. Asks the bridge for entries, and verifies an export without it.

mod check;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use self::check::{Bad, Checker, Place};
use super::{Desk, facts, text};
use crate::ask::{Ask, LONG_WAIT};
use crate::failure::Failure;
use crate::moment;
use crate::options::{Audit, AuditAction, AuditQuery, AuditVerify};
use crate::output::{Mode, Output};
use crate::screen;

/// Longest line of an export; an entry is below a few KiB.
const MAX_LINE_BYTES: u64 = 1024 * 1024;
/// Longest file of heads or with a key.
const MAX_HEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Exit code of a record that does not hold.
const BROKEN: u8 = 10;

/// Lists the newest entries, exports them, or shows where the record ends.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn audit(desk: &Desk, audit: &Audit) -> Result<(), Failure> {
    match &audit.action {
        None => list(desk, &audit.query).await,
        Some(AuditAction::List(query)) => list(desk, query).await,
        Some(AuditAction::Export(query)) => export(desk, query).await,
        Some(AuditAction::Head) => head(desk).await,
        Some(AuditAction::Verify(verify)) => run_here(verify, &desk.output),
    }
}

fn base(query: &AuditQuery) -> Result<Ask, Failure> {
    let ask = Ask::get("/v1/audit")
        .query(
            "since",
            query.since.as_deref().map(moment::since).transpose()?,
        )
        .query(
            "until",
            query.until.as_deref().map(moment::since).transpose()?,
        )
        .query("user", query.user.clone())
        .query("ref", query.reference.clone())
        .query("outcome", query.outcome.clone());
    Ok(ask)
}

async fn list(desk: &Desk, query: &AuditQuery) -> Result<(), Failure> {
    let body = desk.ask(base(query)?).await?.value()?;
    desk.output.list("audit", &body, audit_line)
}

/// Passes the lines on as they come: an export may be larger than memory.
async fn export(desk: &Desk, query: &AuditQuery) -> Result<(), Failure> {
    let ask = base(query)?
        .query("format", Some("ndjson"))
        .header("accept", Some("application/x-ndjson"));
    let opening = tokio::time::timeout(LONG_WAIT, desk.bridge.open(ask)).await;
    let response = opening.map_err(|_elapsed| Failure::bridge_timeout(LONG_WAIT.as_millis()))??;
    let mut body = response.into_body();
    loop {
        let frame = tokio::time::timeout(LONG_WAIT, body.frame()).await;
        let frame = frame.map_err(|_elapsed| Failure::bridge_timeout(LONG_WAIT.as_millis()))?;
        let Some(frame) = frame else { return Ok(()) };
        let frame =
            frame.map_err(|error| Failure::protocol(format!("the export broke off: {error}")))?;
        if let Some(bytes) = frame.data_ref() {
            desk.output.raw(bytes)?;
        }
    }
}

/// What the bridge says of its own record, for keeping elsewhere: heads and the key they are signed with.
async fn head(desk: &Desk) -> Result<(), Failure> {
    let body = desk.ask(Ask::get("/v1/audit/verify")).await?.value()?;
    desk.output.raw_line(&body.to_string())?;
    if body.get("ok") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    let message = format!(
        "the bridge's audit record does not hold at entry {}: {}",
        body.get("first_bad").unwrap_or(&Value::Null),
        text(&body, "reason")
    );
    Err(Failure::not_well(BROKEN, message))
}

fn audit_line(entry: &Value) -> String {
    let rest = facts(
        entry,
        &[
            "seq", "user", "action", "ref", "outcome", "code", "call_id", "trace_id",
        ],
    );
    format!("{}  {rest}", screen::one_line(text(entry, "ts")))
}

/// Verifies an export; asks no bridge.
///
/// # Errors
/// When a file cannot be read, or at the first line that does not hold.
pub(crate) fn run_here(verify: &AuditVerify, output: &Output) -> Result<(), Failure> {
    let (places, named) = match &verify.head {
        Some(path) => read_heads(path)?,
        None => (Vec::new(), None),
    };
    let key = match (&verify.key, named) {
        (Some(given), _) => Some(read_key(given)?),
        (None, Some(named)) => {
            output.note(
                "the heads are checked with the key in their own file; --key names one you trust",
            );
            Some(key_of(&named)?)
        }
        (None, None) => None,
    };
    if verify.head.is_none() && !verify.partial {
        output.note("without --head nobody can tell whether entries are missing at the end");
    }
    let mut checker = Checker::new(places, key, verify.partial).map_err(|bad| broken(&bad))?;
    let mut file = open(&verify.file)?;
    loop {
        let mut line = Vec::new();
        let mut some = file.by_ref().take(MAX_LINE_BYTES);
        let count = some
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::local_io("the export", &error))?;
        if count == 0 {
            break;
        }
        checker
            .line(line.trim_ascii_end())
            .map_err(|bad| broken(&bad))?;
    }
    let held = checker.finish().map_err(|bad| broken(&bad))?;
    match output.mode {
        Mode::Text => output.text("audit", &format!("{}\n", held.sentence())),
        _ => output.json("audit", &held.document().to_string()),
    }
}

fn broken(bad: &Bad) -> Failure {
    let mut failure = Failure::not_well(BROKEN, bad.to_string());
    failure.more.insert("line".to_owned(), json!(bad.line));
    if let Some(seq) = bad.seq {
        failure.more.insert("seq".to_owned(), json!(seq));
    }
    failure
}

fn open(path: &Path) -> Result<Box<dyn std::io::BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok(Box::new(BufReader::new(file)))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

fn read_some(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    file.take(MAX_HEAD_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(path, &error))?;
    Ok(text)
}

/// Heads and, where the file names it, the key: what `audit head` wrote, a list of heads, or one.
fn read_heads(path: &Path) -> Result<(Vec<Place>, Option<String>), Failure> {
    let bad = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let whole: Value =
        serde_json::from_str(&read_some(path)?).map_err(|error| bad(error.to_string()))?;
    let named = whole
        .get("public_key")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let heads = match (whole.get("heads"), whole.get("head"), &whole) {
        (Some(Value::Array(heads)), _, _) | (None, None, Value::Array(heads)) => heads.clone(),
        (None, Some(head), _) => vec![head.clone()],
        _ => vec![whole.clone()],
    };
    let places = heads.into_iter().map(serde_json::from_value::<Place>);
    let places: Vec<Place> = places
        .collect::<Result<_, _>>()
        .map_err(|error| bad(format!("no head: {error}")))?;
    if places.is_empty() {
        return Err(bad("holds no head".to_owned()));
    }
    Ok((places, named))
}

/// A key as base64, or a file that holds it or the answer of `GET /v1/audit/key`.
fn read_key(given: &str) -> Result<VerifyingKey, Failure> {
    if let Ok(key) = key_of(given) {
        return Ok(key);
    }
    let text = read_some(Path::new(given))?;
    let named = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|whole| whole.get("public_key")?.as_str().map(str::to_owned));
    key_of(named.as_deref().unwrap_or(text.trim()))
}

fn key_of(text: &str) -> Result<VerifyingKey, Failure> {
    let bytes = STANDARD.decode(text).ok();
    bytes
        .and_then(|bytes| VerifyingKey::from_bytes(bytes.as_slice().try_into().ok()?).ok())
        .ok_or_else(|| {
            Failure::usage("the public key is 32 bytes in base64, or a file that holds them")
        })
}
