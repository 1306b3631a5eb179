//! The line in which a process says what became of its sandbox, before it becomes the server.
//!
//! It is the first line on stderr or none: what a server itself writes there later is never taken for one.

use std::io::Write as _;

use super::SandboxFacts;

/// How the line begins; no text begins with a record separator.
const MARK: &[u8] = b"\x1epaperbot-sandbox ";
/// Longest such line; one that is longer is the server's.
const MAX_BYTES: usize = 8 * 1024;

pub(super) fn write(facts: &SandboxFacts) {
    let mut line = MARK.to_vec();
    // Values of this crate can always be written.
    line.extend(serde_json::to_vec(facts).unwrap_or_default());
    line.push(b'\n');
    let _ = std::io::stderr().write_all(&line);
}

/// Takes the line off the beginning of a stream.
#[derive(Debug, Default)]
pub(crate) struct ReportReader {
    begun: Vec<u8>,
    done: bool,
}

impl ReportReader {
    /// What of `bytes`, and of what was held back, is the server's own; and the facts, once.
    pub(crate) fn split(&mut self, bytes: &[u8]) -> (Option<SandboxFacts>, Vec<u8>) {
        if self.done {
            return (None, bytes.to_vec());
        }
        self.begun.extend_from_slice(bytes);
        let known = self.begun.len().min(MARK.len());
        let end = memchr::memchr(b'\n', &self.begun);
        let ours = self.begun[..known] == MARK[..known] && self.begun.len() <= MAX_BYTES;
        match end {
            _ if !ours => {
                self.done = true;
                (None, std::mem::take(&mut self.begun))
            }
            None => (None, Vec::new()),
            Some(end) => {
                self.done = true;
                let facts = serde_json::from_slice(&self.begun[known..end]).ok();
                let rest = self.begun.split_off(end + 1);
                self.begun = Vec::new();
                (facts, rest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Level;

    fn read(chunks: &[&[u8]]) -> (Option<SandboxFacts>, Vec<u8>) {
        let mut reader = ReportReader::default();
        let (mut facts, mut rest) = (None, Vec::new());
        for chunk in chunks {
            let (found, bytes) = reader.split(chunk);
            facts = facts.or(found);
            rest.extend(bytes);
        }
        (facts, rest)
    }

    #[test]
    fn only_a_first_line_is_a_report() {
        let line = b"\x1epaperbot-sandbox {\"asked\":\"strict\",\"reached\":\"basic\",\"lacking\":[\"x\"]}\n";
        let text = [&line[..], b"hello\n"].concat();
        for size in [1, 5, 1000] {
            let chunks: Vec<_> = text.chunks(size).collect();
            let (facts, rest) = read(&chunks);
            let facts = facts.unwrap();
            assert_eq!((facts.asked, facts.reached), (Level::Strict, Level::Basic));
            assert_eq!(rest, b"hello\n");
        }
        let late = [&b"hello\n"[..], &line[..]].concat();
        assert_eq!(read(&[&late]), (None, late.clone()));
        let endless = [b"\x1epaperbot-sandbox ", &[b'x'; 2 * MAX_BYTES][..]].concat();
        assert_eq!(read(&[&endless]), (None, endless.clone()));
    }
}
