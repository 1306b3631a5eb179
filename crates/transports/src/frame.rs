//! Cuts a byte stream into lines with a bound. Pure: knows no I/O.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of an over-long line kept from each end, to find the id of the call it answers.
pub const OVERSIZED_PROBE_BYTES: usize = 256;

/// What the framer found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole line without its end.
    Line(Bytes),
    /// A line passed the limit; told once, at that moment, with its first bytes.
    TooLong {
        /// The first [`OVERSIZED_PROBE_BYTES`].
        head: Bytes,
    },
    /// The over-long line ended, with its last bytes.
    TooLongEnded {
        /// The last [`OVERSIZED_PROBE_BYTES`] or fewer.
        tail: Bytes,
    },
}

/// Cuts lines.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    limit_bytes: usize,
    /// How much of the buffer is known to hold no line end.
    scanned: usize,
    discarding: bool,
}

impl Framer {
    /// A framer that refuses lines longer than `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit_bytes,
            scanned: 0,
            discarding: false,
        }
    }

    /// Where the next bytes of the stream go.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next frame of what is buffered, if any is whole.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let end =
                memchr::memchr(b'\n', &self.buffer[self.scanned..]).map(|at| at + self.scanned);
            if self.discarding {
                return self.discard(end);
            }
            match end {
                Some(end) if end <= self.limit_bytes => {
                    let mut line = self.buffer.split_to(end).freeze();
                    self.buffer.advance(1);
                    self.scanned = 0;
                    if line.last() == Some(&b'\r') {
                        line.truncate(line.len() - 1);
                    }
                    if !line.is_empty() {
                        return Some(Frame::Line(line));
                    }
                }
                None if self.buffer.len() <= self.limit_bytes => {
                    self.scanned = self.buffer.len();
                    return None;
                }
                _ => {
                    self.discarding = true;
                    let head = &self.buffer[..self.buffer.len().min(OVERSIZED_PROBE_BYTES)];
                    return Some(Frame::TooLong {
                        head: Bytes::copy_from_slice(head),
                    });
                }
            }
        }
    }

    fn discard(&mut self, end: Option<usize>) -> Option<Frame> {
        let Some(end) = end else {
            // Only the end of the line still matters.
            let surplus = self.buffer.len().saturating_sub(OVERSIZED_PROBE_BYTES);
            self.buffer.advance(surplus);
            self.scanned = self.buffer.len();
            return None;
        };
        let tail =
            Bytes::copy_from_slice(&self.buffer[end.saturating_sub(OVERSIZED_PROBE_BYTES)..end]);
        self.buffer.advance(end + 1);
        self.scanned = 0;
        self.discarding = false;
        Some(Frame::TooLongEnded { tail })
    }

    /// Bytes of a line that never ended.
    #[must_use]
    pub fn rest(&self) -> usize {
        self.buffer.len()
    }
}

/// Looks for the envelope's own `"id":<unsigned>` in the first or, when `from_end`, the last bytes of a line.
/// An `id` inside the payload is no answer, and a line with a `method` before its id is none either.
#[must_use]
pub fn find_id(piece: &[u8], from_end: bool) -> Option<u64> {
    if from_end {
        return find_last_id(piece);
    }
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = piece.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = string_end(piece, at)?;
                let after = piece[end..].trim_ascii_start();
                if depth == 1 && after.first() == Some(&b':') {
                    match &piece[at..end] {
                        b"\"id\"" => return unsigned(&after[1..]).map(|(id, _)| id),
                        b"\"method\"" => return None,
                        _ => {}
                    }
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Behind the envelope's own id only flat members and the one closing brace can stand.
fn find_last_id(piece: &[u8]) -> Option<u64> {
    let key = b"\"id\"";
    let at = memchr::memmem::rfind(piece, key)?;
    let after = piece[at + key.len()..]
        .trim_ascii_start()
        .strip_prefix(b":")?;
    let (id, rest) = unsigned(after)?;
    let inner = rest.trim_ascii_end().strip_suffix(b"}")?;
    let flat = !inner
        .iter()
        .any(|byte| matches!(byte, b'{' | b'[' | b']' | b'}'));
    flat.then_some(id)
}

/// Where the string that begins at `start` is over, if it ends in this piece.
fn string_end(piece: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match piece.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// An unsigned number and what follows it.
fn unsigned(text: &[u8]) -> Option<(u64, &[u8])> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    Some((number, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(framer: &mut Framer, chunks: &[&[u8]]) -> Vec<Frame> {
        let mut found = Vec::new();
        for chunk in chunks {
            framer.buffer().extend_from_slice(chunk);
            while let Some(frame) = framer.next_frame() {
                found.push(frame);
            }
        }
        found
    }

    #[test]
    fn an_endless_line_is_told_once_and_forgotten() {
        let mut framer = Framer::new(8);
        let found = all(
            &mut framer,
            &[
                b"{\"id\":7,",
                &[b'x'; 4096],
                &[b'y'; 4096],
                b"\"id\":9}\nok\n",
            ],
        );
        let [
            Frame::TooLong { head },
            Frame::TooLongEnded { tail },
            Frame::Line(line),
        ] = &found[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!(
            (find_id(head, false), find_id(tail, true)),
            (Some(7), Some(9))
        );
        assert_eq!(&line[..], b"ok");
    }

    #[test]
    fn ids_are_found_only_where_they_are_plain() {
        for (piece, id) in [
            ("{\"id\" : 12,", Some(12)),
            ("{\"id\":\"12\"", None),
            ("{\"result\":", None),
            ("\"id\":", None),
            ("{\"result\":{\"items\":[{\"id\":7},", None),
            ("{\"result\":{\"id\":7},\"id\":8", Some(8)),
            ("{\"s\":\"\\\"{\",\"id\":9,", Some(9)),
            ("{\"method\":\"ping\",\"id\":3", None),
        ] {
            assert_eq!(find_id(piece.as_bytes(), false), id, "{piece}");
        }
        for (piece, id) in [
            ("xxx\"}]},\"id\":7}", Some(7)),
            ("xxx\"}]},\"id\":7,\"jsonrpc\":\"2.0\"}", Some(7)),
            ("[{\"id\":7}]}}", None),
            ("xxx,\"id\":7}}", None),
        ] {
            assert_eq!(find_id(piece.as_bytes(), true), id, "{piece}");
        }
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..400), cuts in proptest::collection::vec(1usize..40, 1..40)) {
            let whole: Vec<_> = all(&mut Framer::new(24), &[&bytes]).into_iter().filter(|f| matches!(f, Frame::Line(_))).collect();
            let mut chunks = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            let cut: Vec<_> = all(&mut Framer::new(24), &chunks).into_iter().filter(|f| matches!(f, Frame::Line(_))).collect();
            prop_assert_eq!(whole, cut);
        }
    }
}
