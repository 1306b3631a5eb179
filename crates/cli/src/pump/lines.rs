//! Standard input and output as lines, each on a thread of its own: a pipe nobody reads or writes
//! must stop neither the other one nor the requests under way.

use std::io::{self, BufRead, BufReader, Write as _};

use serde_json::Value;
use tokio::sync::mpsc;

/// The longest line of the client, as for every MCP line here.
pub(crate) const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Lines read ahead: one under way is enough.
const READ_AHEAD: usize = 1;

/// Messages waiting for the client to read; then those who send them wait.
const MAX_WAITING_MESSAGES: usize = 64;

/// How much of either end of a line that is too long is kept to find its id.
const KEPT_BYTES: usize = 512;

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its end.
    Whole(Vec<u8>),
    /// A line over the limit, dropped; the id of its request where it stands at either end.
    TooLong(Option<String>),
}

/// Reads standard input until it ends; the channel closes with it.
pub(crate) fn input() -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        let mut reader = BufReader::with_capacity(64 * 1024, io::stdin().lock());
        while let Ok(Some(line)) = next(&mut reader, MAX_LINE_BYTES) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Writes messages to standard output, one a line; closes when nobody reads any more. The second
/// channel closes when everything sent has been written.
pub(crate) fn output() -> (mpsc::Sender<String>, mpsc::Receiver<()>) {
    let (sender, mut receiver) = mpsc::channel::<String>(MAX_WAITING_MESSAGES);
    let (done, finished) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdout = io::stdout().lock();
        while let Some(mut line) = receiver.blocking_recv() {
            line.push('\n');
            let written = stdout.write_all(line.as_bytes());
            if written.and_then(|()| stdout.flush()).is_err() {
                break;
            }
        }
        drop(done);
    });
    (sender, finished)
}

fn next(reader: &mut impl BufRead, limit: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut tail: Vec<u8> = Vec::new();
    let mut too_long = false;
    loop {
        let part = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            part => part?,
        };
        let at_end = part.is_empty();
        let newline = part.iter().position(|byte| *byte == b'\n');
        let taken = newline.unwrap_or(part.len());
        if !too_long && line.len() + taken > limit {
            too_long = true;
            tail = line[line.len().saturating_sub(KEPT_BYTES)..].to_vec();
            line.truncate(KEPT_BYTES);
            line.shrink_to_fit();
        }
        if too_long {
            tail.extend_from_slice(&part[..taken]);
            tail.drain(..tail.len().saturating_sub(KEPT_BYTES));
        } else {
            line.extend_from_slice(&part[..taken]);
        }
        reader.consume(taken + usize::from(newline.is_some()));
        if newline.is_none() && !at_end {
            continue;
        }
        return Ok(match (too_long, at_end && line.is_empty()) {
            (true, _) => Some(Line::TooLong(id_at_either_end(&line, &tail))),
            (false, true) => None,
            (false, false) => Some(Line::Whole(line)),
        });
    }
}

/// Every client library writes the id either right after `jsonrpc` or as the last member.
fn id_at_either_end(head: &[u8], tail: &[u8]) -> Option<String> {
    const MARK: &str = "\"id\":";
    let tail = String::from_utf8_lossy(tail);
    let last = tail
        .rfind(MARK)
        .and_then(|at| tail[at + MARK.len()..].trim_end().strip_suffix('}'));
    let head = String::from_utf8_lossy(head);
    let before = ["{", "\"jsonrpc\"", ":", "\"2.0\"", ",", "\"id\"", ":"];
    let first = before.iter().try_fold(head.as_ref(), |rest, token| {
        rest.trim_start().strip_prefix(token)
    });
    let first = first.and_then(|rest| rest.split_once(','));
    [last, first.map(|(id, _)| id)]
        .into_iter()
        .flatten()
        .find(|id| serde_json::from_str(id).is_ok_and(|id: Value| id.is_string() || id.is_number()))
        .map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], limit: usize) -> Vec<Line> {
        // A tiny buffer cuts lines wherever it can.
        let mut reader = BufReader::with_capacity(3, text);
        std::iter::from_fn(|| next(&mut reader, limit).unwrap()).collect()
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        assert_eq!(
            lines(b"one\n\ntwo\r\nthree", 100),
            [
                Line::Whole(b"one".to_vec()),
                Line::Whole(Vec::new()),
                Line::Whole(b"two\r".to_vec()),
                Line::Whole(b"three".to_vec())
            ]
        );
    }

    #[test]
    fn a_line_over_the_limit_is_dropped_and_its_request_found() {
        let pad = "x".repeat(2000);
        let text = format!(
            "{{\"jsonrpc\": \"2.0\", \"id\": 7, \"params\": \"{pad}\"}}\n{{\"params\":\"{pad}\",\"id\":\"b\"}}\n{{\"params\":{{\"x\":\"{pad}\",\"id\":9}}}}\nshort\n"
        );
        assert_eq!(
            lines(text.as_bytes(), 1000),
            [
                Line::TooLong(Some("7".to_owned())),
                Line::TooLong(Some("\"b\"".to_owned())),
                Line::TooLong(None),
                Line::Whole(b"short".to_vec())
            ]
        );
        let exact = [b"y".repeat(10), b"\n".to_vec()].concat();
        assert_eq!(lines(&exact, 10), [Line::Whole(b"y".repeat(10))]);
    }
}
