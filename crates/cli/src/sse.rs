//! Reads a server-sent event stream from an open answer. Never reconnects.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::failure::Failure;

/// One event holds at most a whole result; the bridge's limit is far below.
const MAX_EVENT_BYTES: usize = 128 * 1024 * 1024;

/// One event that has data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Where a stream can be resumed, if the sender said.
    pub(crate) id: Option<String>,
    /// The data, its lines joined.
    pub(crate) data: String,
}

/// Splits bytes into events. Pure.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    searched: usize,
}

impl Frames {
    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event; comments and events without data are skipped.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            let end = self.end_of_event()?;
            let frame: Vec<u8> = self.buffer.drain(..end).collect();
            self.searched = 0;
            let text = String::from_utf8_lossy(&frame);
            let data: Vec<&str> = field(&text, "data:").collect();
            if !data.is_empty() {
                return Some(Event {
                    id: field(&text, "id:").last().map(str::to_owned),
                    data: data.join("\n"),
                });
            }
        }
    }

    /// Past the empty line that ends an event, LF or CRLF. Each byte is looked at once or twice.
    fn end_of_event(&mut self) -> Option<usize> {
        let from = self.searched;
        let mut lines = self.buffer[from..]
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| from + at);
        let mut previous = lines.next()?;
        for at in lines {
            let between = &self.buffer[previous + 1..at];
            if between.is_empty() || between == b"\r" {
                return Some(at + 1);
            }
            previous = at;
        }
        self.searched = previous;
        None
    }

    fn len(&self) -> usize {
        self.buffer.len()
    }
}

/// The values of one field, each without the blank that may lead it.
fn field<'a>(frame: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    frame
        .lines()
        .filter_map(move |line| line.strip_prefix(name))
        .map(|value| value.strip_prefix(' ').unwrap_or(value))
}

/// Reads one event's data.
///
/// # Errors
/// A protocol failure when it is another shape.
pub(crate) fn read<'a, T: serde::Deserialize<'a>>(data: &'a str) -> Result<T, Failure> {
    serde_json::from_str(data)
        .map_err(|error| Failure::protocol(format!("an event is not readable: {error}")))
}

/// An event stream.
#[derive(Debug)]
pub(crate) struct EventStream {
    body: Incoming,
    frames: Frames,
}

impl EventStream {
    /// Reads the answer's body as events.
    #[must_use]
    pub(crate) fn new(response: Response<Incoming>) -> Self {
        Self {
            body: response.into_body(),
            frames: Frames::default(),
        }
    }

    /// The next event's data as it was sent; `None` when the bridge ended the stream.
    ///
    /// # Errors
    /// As [`EventStream::next_event`].
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        Ok(self.next_event().await?.map(|event| event.data))
    }

    /// The next event; `None` when the bridge ended the stream.
    ///
    /// # Errors
    /// When the stream breaks off or an event is too long.
    pub(crate) async fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.frames.next_event() {
                return Ok(Some(event));
            }
            if self.frames.len() > MAX_EVENT_BYTES {
                return Err(Failure::protocol("an event is too long"));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                Failure::protocol(format!("the event stream broke off: {error}"))
            })?;
            let bytes: Bytes = frame.into_data().unwrap_or_default();
            self.frames.push(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_are_cut() {
        let stream = b": ping\n\nid: 1\nevent: a\ndata: {\"x\":1}\n\nid: 2\r\ndata: a\r\ndata: b\r\n\r\ndata: tail\n";
        for size in 1..stream.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for part in stream.chunks(size) {
                frames.push(part);
                found.extend(std::iter::from_fn(|| frames.next_event()));
            }
            let found: Vec<(Option<&str>, &str)> = found
                .iter()
                .map(|event| (event.id.as_deref(), event.data.as_str()))
                .collect();
            assert_eq!(
                found,
                [(Some("1"), "{\"x\":1}"), (Some("2"), "a\nb")],
                "chunks of {size}"
            );
        }
    }
}
