//! The boundaries of this crate where bytes of strangers come in, each with what must hold of any bytes.
//!
//! Called by the fuzz targets (`fuzz/`) and, with their seeds, by the tests. Panics where a promise breaks;
//! never part of a program that is given out.

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::StreamBody;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::frame::{self, Framer, OVERSIZED_PROBE_BYTES};
use crate::sse::{SseEvent, SseFault, SseReader};
use crate::tunnel::frame::{Assembly, Frame, Payload};
use crate::wire::{self, Incoming, ResultHead};

/// Small, so that a fuzzer reaches it with few bytes.
const LIMIT_BYTES: usize = 64;
/// Size of a result from which [`ResultHead`] looks for names before it reads.
const SEARCHED_BYTES: usize = 1024;

/// The first byte is the size of the pieces in which the others arrive.
fn pieces(data: &[u8]) -> (usize, &[u8]) {
    match data.split_first() {
        Some((size, rest)) => (usize::from(*size).max(1), rest),
        None => (1, data),
    }
}

/// Lines of a child's stdout: the same however they arrive, none over the bound, nothing kept beyond it.
///
/// # Panics
/// Where one of these does not hold.
pub fn stdio(data: &[u8]) {
    let (size, bytes) = pieces(data);
    let whole = lines(&mut Framer::new(LIMIT_BYTES), [bytes]);
    let cut = lines(&mut Framer::new(LIMIT_BYTES), bytes.chunks(size));
    assert_eq!(whole, cut, "the same lines however they arrive");
}

/// Lines, and how many were too long.
fn lines<'a>(
    framer: &mut Framer,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Bytes>, usize) {
    let (mut lines, mut too_long) = (Vec::new(), 0);
    for chunk in chunks {
        framer.buffer().extend_from_slice(chunk);
        while let Some(found) = framer.next_frame() {
            match found {
                frame::Frame::Line(line) => {
                    assert!(line.len() <= LIMIT_BYTES && !line.contains(&b'\n'));
                    let _ = wire::parse(&line);
                    let _ = frame::find_id(&line, false);
                    lines.push(line);
                }
                frame::Frame::TooLong { head } => {
                    assert!(head.len() <= OVERSIZED_PROBE_BYTES);
                    let _ = frame::find_id(&head, false);
                    too_long += 1;
                }
                frame::Frame::TooLongEnded { tail } => {
                    assert!(tail.len() <= OVERSIZED_PROBE_BYTES);
                    let _ = frame::find_id(&tail, true);
                }
            }
        }
        let most = LIMIT_BYTES.max(OVERSIZED_PROBE_BYTES);
        assert!(framer.rest() <= most, "no more is kept than the bound");
    }
    (lines, too_long)
}

/// Server-sent events: the same however they arrive, none over the bound.
///
/// # Panics
/// Where one of these does not hold.
pub fn events(data: &[u8]) {
    let (size, bytes) = pieces(data);
    let whole = read_events(vec![Bytes::copy_from_slice(bytes)]);
    let cut = read_events(bytes.chunks(size).map(Bytes::copy_from_slice).collect());
    assert_eq!(whole, cut, "the same events however they arrive");
    let most = whole.0.iter().map(|event| event.data.len()).max();
    assert!(most.unwrap_or_default() <= LIMIT_BYTES);
}

fn read_events(chunks: Vec<Bytes>) -> (Vec<SseEvent>, Result<(), SseFault>) {
    let frames = chunks
        .into_iter()
        .map(|chunk| Ok::<_, std::io::Error>(http_body::Frame::data(chunk)));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut reader = SseReader::new(body, LIMIT_BYTES);
    let mut events = Vec::new();
    loop {
        // All bytes are there already: the reader never waits.
        match reader.next().now_or_never() {
            Some(Ok(Some(event))) => events.push(event),
            Some(Ok(None)) | None => return (events, Ok(())),
            Some(Err(fault)) => return (events, Err(fault)),
        }
    }
}

/// Frames of the tunnel, one a line: what is read is written the same way from then on, and parts are
/// put together or refused.
///
/// # Panics
/// Where one of these does not hold.
pub fn tunnel(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut assembly = Assembly::default();
    for line in text.lines() {
        let Ok(read) = Frame::decode(line) else {
            continue;
        };
        let written = read.encode();
        match Frame::decode(&written) {
            Ok(again) => assert_eq!(again.encode(), written, "written alike"),
            Err(bad) => panic!("a frame that was read is refused once written: {bad}"),
        }
        if let Payload::Part(kind, part) = &read.payload {
            let _ = assembly.take(read.req_id.as_ref(), *kind, part);
        }
    }
}

/// A message of a server: what is read is what any reader of JSON reads.
///
/// # Panics
/// Where that does not hold.
pub fn message(data: &[u8]) {
    let Ok(message) = wire::parse(data) else {
        return;
    };
    let Ok(seen) = serde_json::from_slice::<Value>(data) else {
        // Deeper than a reader into values goes, or a number too large for one: passed on raw.
        return;
    };
    compare(&message, &seen);
}

fn compare(message: &Incoming, seen: &Value) {
    match message {
        Incoming::Response(response) => {
            if let Some(id) = response.id {
                assert_eq!(seen["id"].as_u64(), Some(id));
            }
            if let Ok(result) = &response.outcome {
                assert_eq!(value_of(result), seen["result"]);
                compare_head(result, &seen["result"]);
            }
        }
        Incoming::Request(request) => {
            assert_eq!(seen["method"], *request.method);
            assert_eq!(value_of(&request.id.0), seen["id"]);
        }
        Incoming::Notification(notification) => {
            assert_eq!(seen["method"], *notification.method);
            let params = notification.params.as_deref().map_or(Value::Null, value_of);
            assert_eq!(params, seen["params"]);
        }
        Incoming::Batch(messages) => {
            for (message, seen) in messages.iter().zip(seen.as_array().into_iter().flatten()) {
                compare(message, seen);
            }
        }
    }
}

fn compare_head(result: &RawValue, seen: &Value) {
    // Of a large result only names spelled plainly are found.
    if result.get().len() < SEARCHED_BYTES {
        let head = ResultHead::of(result);
        assert_eq!(head.is_tool_error(), seen["isError"] == true);
    }
}

fn value_of(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds every seed of a target.
    fn feed(target: &str, boundary: fn(&[u8])) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let seeds = std::fs::read_dir(folder.join(target)).unwrap();
        let fed = seeds
            .map(|seed| boundary(&std::fs::read(seed.unwrap().path()).unwrap()))
            .count();
        assert!(fed > 0, "{target} has seeds");
    }

    #[test]
    fn the_seeds_of_every_target_hold() {
        feed("stdio", stdio);
        feed("events", events);
        feed("tunnel", tunnel);
        feed("message", message);
    }
}
