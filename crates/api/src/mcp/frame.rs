//! Messages as server-sent events.

use bytes::Bytes;
use http::StatusCode;

/// How long a client should wait before it takes a broken stream up again, in milliseconds.
const RETRY_MS: u32 = 500;

/// One message of ours on its way to the client.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The JSON-RPC message.
    pub(super) json: Vec<u8>,
    /// What it is to its exchange.
    pub(super) weight: Weight,
    /// The HTTP status, should it be the whole answer.
    pub(super) status: StatusCode,
}

impl Outgoing {
    /// A message that is not the answer.
    pub(super) fn on_the_way(json: Vec<u8>, weight: Weight) -> Self {
        Self {
            json,
            weight,
            status: StatusCode::OK,
        }
    }
}

/// What a message is to its exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Told in passing: may be lost to a client that does not read.
    Notice,
    /// A question that waits for an answer.
    Question,
    /// The answer; nothing follows.
    Answer,
}

/// A message as an event. Without an id nobody resumes after it.
pub(super) fn event(id: Option<&str>, json: &[u8]) -> Bytes {
    let id_bytes = id.map_or(0, |id| id.len() + 5);
    let mut frame = Vec::with_capacity(json.len() + id_bytes + 24);
    if let Some(id) = id {
        frame.extend_from_slice(b"id: ");
        frame.extend_from_slice(id.as_bytes());
        frame.push(b'\n');
    }
    frame.extend_from_slice(b"event: message\ndata: ");
    let from = frame.len();
    frame.extend_from_slice(json);
    // A server may have written its result over several lines; between tokens a line end is as good as a space.
    for byte in &mut frame[from..] {
        if *byte == b'\n' || *byte == b'\r' {
            *byte = b' ';
        }
    }
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

/// An event without a message: from here on the stream can be taken up again.
pub(super) fn prime(id: &str) -> Bytes {
    format!("id: {id}\nretry: {RETRY_MS}\ndata:\n\n").into()
}

/// The first event of HTTP+SSE: where messages are to be posted.
pub(super) fn endpoint(path: &str) -> Bytes {
    format!("event: endpoint\ndata: {path}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_many_lines_is_one_line_of_an_event() {
        let frame = event(Some("1.2.3"), b"{\n \"a\":\r\n1}");
        assert_eq!(
            &frame[..],
            b"id: 1.2.3\nevent: message\ndata: {  \"a\":  1}\n\n"
        );
        assert_eq!(&event(None, b"{}")[..], b"event: message\ndata: {}\n\n");
    }
}
