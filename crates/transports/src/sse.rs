//! Reads server-sent events off an HTTP body, holding at most one event's bound of bytes.
//!
//! Knows no JSON and no MCP. Own rather than a crate's because each byte that is kept must be
//! counted while it arrives, and because an event in one piece is given out without a copy.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use std::time::Duration;

/// Longest value kept of an `event` or `id` field. An id comes back as a header, and headers are small.
const MAX_FIELD_BYTES: usize = 1024;

/// One event. Empty `data` is given out too: servers send an id alone to prime a resume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// The `event` field; `None` stands for `message`.
    pub(crate) event: Option<String>,
    /// The `data` lines, joined by line feeds.
    pub(crate) data: Bytes,
    /// The `id` field, if it stood in this event.
    pub(crate) id: Option<String>,
    /// The `retry` field, if it stood in this event.
    pub(crate) retry: Option<Duration>,
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SseFault {
    /// An event grew over the bound.
    TooLarge,
    /// The body broke off.
    Broken,
}

/// Events of one body.
#[derive(Debug)]
pub(crate) struct SseReader<B> {
    body: B,
    chunk: Bytes,
    parser: Parser,
}

impl<B> SseReader<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    pub(crate) fn new(body: B, limit_bytes: usize) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            parser: Parser::new(limit_bytes),
        }
    }

    /// The next event, or `None` at the end of the body. An event without its blank line is lost,
    /// as the specification of the format wants.
    pub(crate) async fn next(&mut self) -> Result<Option<SseEvent>, SseFault> {
        loop {
            if let Some(event) = self.parser.feed(&mut self.chunk)? {
                return Ok(Some(event));
            }
            // Lets go of the connection's read buffer before waiting.
            self.chunk = Bytes::new();
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(SseFault::Broken),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.chunk = data;
                    }
                }
            }
        }
    }
}

/// The state between two bytes of a stream.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about what came before"
)]
struct Parser {
    limit_bytes: usize,
    /// The begun line, when it began in an earlier chunk.
    partial: BytesMut,
    event: SseEvent,
    /// More than one data line: joined here.
    joined: BytesMut,
    has_data: bool,
    has_fields: bool,
    /// The last chunk ended in a carriage return whose line feed may come yet.
    after_cr: bool,
    at_start: bool,
}

impl Parser {
    fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            partial: BytesMut::new(),
            event: SseEvent::default(),
            joined: BytesMut::new(),
            has_data: false,
            has_fields: false,
            after_cr: false,
            at_start: true,
        }
    }

    /// Takes bytes off the front of `chunk` until an event is whole or the chunk is used up.
    fn feed(&mut self, chunk: &mut Bytes) -> Result<Option<SseEvent>, SseFault> {
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
                let _ = chunk.split_to(1);
                continue;
            }
            let Some(end) = chunk.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                self.hold(chunk.len())?;
                self.partial.extend_from_slice(chunk);
                chunk.clear();
                break;
            };
            self.hold(end)?;
            let mut line = chunk.split_to(end);
            self.after_cr = chunk.split_to(1).first() == Some(&b'\r');
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(&line);
                // Taken whole, not split off: an idle stream keeps no buffer.
                line = std::mem::take(&mut self.partial).freeze();
            }
            if let Some(event) = self.line(line) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Fails when `more` bytes on top of what is kept pass the bound.
    fn hold(&self, more: usize) -> Result<(), SseFault> {
        let data = if self.joined.is_empty() {
            self.event.data.len()
        } else {
            self.joined.len()
        };
        if data + self.partial.len() + more > self.limit_bytes {
            return Err(SseFault::TooLarge);
        }
        Ok(())
    }

    fn line(&mut self, mut line: Bytes) -> Option<SseEvent> {
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            let _ = line.split_to(3);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let field = line.split_to(colon);
        if !line.is_empty() {
            let _ = line.split_to(1);
        }
        if line.first() == Some(&b' ') {
            let _ = line.split_to(1);
        }
        self.field(&field, line);
        None
    }

    fn field(&mut self, field: &[u8], value: Bytes) {
        let text = || {
            let short = value.len() <= MAX_FIELD_BYTES && !value.contains(&0);
            short
                .then(|| std::str::from_utf8(&value).ok().map(str::to_owned))
                .flatten()
        };
        match field {
            b"data" => {
                self.data(value);
                return;
            }
            b"event" => self.event.event = text(),
            b"id" => self.event.id = text(),
            b"retry" => {
                self.event.retry = text()
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map(Duration::from_millis);
            }
            // Comments keep a stream open and unknown fields are ignored; neither makes an event.
            _ => return,
        }
        self.has_fields = true;
    }

    fn data(&mut self, value: Bytes) {
        self.has_fields = true;
        if !std::mem::replace(&mut self.has_data, true) {
            self.event.data = value;
            return;
        }
        if self.joined.is_empty() {
            let first = std::mem::take(&mut self.event.data);
            self.joined.extend_from_slice(&first);
        }
        self.joined.extend_from_slice(b"\n");
        self.joined.extend_from_slice(&value);
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        self.has_data = false;
        if !std::mem::take(&mut self.has_fields) {
            return None;
        }
        let mut event = std::mem::take(&mut self.event);
        if !self.joined.is_empty() {
            event.data = std::mem::take(&mut self.joined).freeze();
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use proptest::prelude::*;

    const LIMIT: usize = 64;

    async fn read(chunks: Vec<Bytes>, limit_bytes: usize) -> (Vec<SseEvent>, Result<(), SseFault>) {
        let frames = chunks
            .into_iter()
            .map(|chunk| Ok::<_, std::io::Error>(http_body::Frame::data(chunk)));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut reader = SseReader::new(body, limit_bytes);
        let mut events = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, Ok(())),
                Err(fault) => return (events, Err(fault)),
            }
        }
    }

    fn message(data: &str) -> SseEvent {
        SseEvent {
            data: Bytes::copy_from_slice(data.as_bytes()),
            ..SseEvent::default()
        }
    }

    #[tokio::test]
    async fn fields_are_read_as_the_format_says() {
        let text = "\u{feff}: hello\n\nevent: message\ndata: {\"a\":1}\nid: 7\nretry: 250\n\n\
                    data:x\r\ndata: y\r\n\r\nid\ndata\n\nretry: soon\rdata: z\r\rdata: lost";
        let (events, end) = read(vec![Bytes::from(text)], 1024).await;
        let first = SseEvent {
            event: Some("message".into()),
            id: Some("7".into()),
            retry: Some(Duration::from_millis(250)),
            ..message("{\"a\":1}")
        };
        let emptied = SseEvent {
            id: Some(String::new()),
            ..message("")
        };
        assert_eq!(events, vec![first, message("x\ny"), emptied, message("z")]);
        assert_eq!(end, Ok(()));
    }

    #[tokio::test]
    async fn an_event_over_the_bound_ends_the_reading_however_it_is_cut() {
        let long_line = format!("data: {}\n\n", "x".repeat(LIMIT));
        let many_lines = "data: 0123456789\n".repeat(10);
        let endless = "x".repeat(4 * LIMIT);
        for text in [long_line, many_lines, endless] {
            for size in [1, 7, 1000] {
                let chunks = text.as_bytes().chunks(size).map(Bytes::copy_from_slice);
                let (events, end) = read(chunks.collect(), LIMIT).await;
                assert_eq!((events.len(), end), (0, Err(SseFault::TooLarge)), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn many_small_events_pass_under_a_small_bound() {
        let text = "data: 0123456789\n\n".repeat(100);
        let (events, end) = read(vec![Bytes::from(text)], LIMIT).await;
        assert_eq!((events.len(), end), (100, Ok(())));
    }

    #[tokio::test]
    async fn a_whole_event_is_not_copied() {
        let chunk = Bytes::from_static(b"data: {}\n\n");
        let mut reader = SseReader::new(Full::new(chunk.clone()), LIMIT);
        let event = reader.next().await.unwrap().unwrap();
        assert_eq!(event.data.as_ptr(), chunk.slice(6..8).as_ptr());
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            lines in proptest::collection::vec("(data|id|event|retry|)[: x0-9]{0,12}(\n|\r|\r\n|\n\n)", 0..20),
            cuts in proptest::collection::vec(1_usize..9, 1..9),
        ) {
            let text = lines.concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let whole = runtime.block_on(read(vec![Bytes::from(text.clone())], 4096));
            let mut rest = Bytes::from(text);
            let mut pieces = Vec::new();
            for size in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                pieces.push(rest.split_to((*size).min(rest.len())));
            }
            prop_assert_eq!(runtime.block_on(read(pieces, 4096)), whole);
        }
    }
}
