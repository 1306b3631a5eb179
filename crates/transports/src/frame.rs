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

/// Looks for `"id":<unsigned>` in a piece of an envelope, the last one when `from_end`.
#[must_use]
pub fn find_id(piece: &[u8], from_end: bool) -> Option<u64> {
    let key = b"\"id\"";
    let at = if from_end {
        memchr::memmem::rfind(piece, key)
    } else {
        memchr::memmem::find(piece, key)
    }?;
    let rest = piece[at + key.len()..]
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
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
        ] {
            assert_eq!(find_id(piece.as_bytes(), false), id, "{piece}");
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
