//! The last lines a process wrote to stderr, bounded in lines and bytes.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Lines kept: what `inspect` shows.
pub(crate) const MAX_LINES: usize = 200;
/// Bytes kept over all lines.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// Longest single line kept; a longer one is cut.
pub(crate) const MAX_LINE_BYTES: usize = 4 * 1024;

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
    partial: Vec<u8>,
}

/// The ring. Written by one reader task, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct StderrRing(Mutex<Ring>);

impl StderrRing {
    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds bytes as they come.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut ring = self.ring();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = MAX_LINE_BYTES.saturating_sub(ring.partial.len());
            ring.partial
                .extend_from_slice(&text[..text.len().min(room)]);
            if piece.len() > text.len() {
                ring.end_line();
            }
        }
    }

    /// The lines, oldest first, with an unfinished last one.
    #[must_use]
    pub(crate) fn tail(&self) -> Vec<String> {
        let ring = self.ring();
        let mut lines: Vec<String> = ring.lines.iter().cloned().collect();
        if !ring.partial.is_empty() {
            lines.push(String::from_utf8_lossy(&ring.partial).into_owned());
        }
        lines
    }
}

impl Ring {
    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial))
            .trim_end()
            .to_owned();
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_last_lines_within_its_bounds() {
        let ring = StderrRing::default();
        for number in 0..1000 {
            ring.push(format!("line {number}\r\n").as_bytes());
        }
        ring.push(b"unfini");
        ring.push(b"shed");
        let tail = ring.tail();
        assert_eq!(
            (tail.len(), tail[0].as_str(), tail[200].as_str()),
            (201, "line 800", "unfinished")
        );
        ring.push(&vec![b'x'; 10 * MAX_BYTES]);
        ring.push(b"\n");
        let tail = ring.tail();
        assert_eq!(tail.last().map(String::len), Some(MAX_LINE_BYTES));
        for _ in 0..100 {
            ring.push(&[b'y'; MAX_LINE_BYTES]);
            ring.push(b"\n");
        }
        assert!(ring.tail().iter().map(String::len).sum::<usize>() <= MAX_BYTES);
    }
}
