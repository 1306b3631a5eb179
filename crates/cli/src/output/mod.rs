//! What reaches stdout and how much of it: text, one JSON document, or one a line.
//! Owns the cap for programs; never writes errors (see `failure`).

mod abridged;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use self::abridged::{abridged, truncation};
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::options::Globals;
use crate::places::Places;
use crate::screen;

/// What an agent's context should take from one command; the rest is one `read` away.
const DEFAULT_CAP_BYTES: usize = 16 * 1024;

/// Whole results kept in the state directory; the oldest go first.
const MAX_KEPT_RESULTS: usize = 200;

/// What the user wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Lines for people and agents.
    Text,
    /// One document.
    Json,
    /// One document a line.
    JsonLines,
}

/// Stdout and the notes on stderr; copies share the count of files.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts about two streams and two flags"
)]
pub(crate) struct Output {
    /// What the user wants to see.
    pub(crate) mode: Mode,
    cap_bytes: Option<usize>,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    quiet: bool,
    /// Say what is done.
    pub(crate) verbose: bool,
    results: PathBuf,
    files_written: Arc<AtomicU32>,
}

impl Output {
    /// Reads the options and looks at the two streams.
    #[must_use]
    pub(crate) fn new(globals: &Globals, quiet: bool, places: &Places) -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        let cap_bytes = match globals.max_bytes {
            Some(0) => None,
            Some(bytes) => Some(bytes),
            None => (!stdout_is_terminal).then_some(DEFAULT_CAP_BYTES),
        };
        let mode = match (globals.json, globals.jsonl) {
            (true, _) => Mode::Json,
            (false, true) => Mode::JsonLines,
            (false, false) => Mode::Text,
        };
        Self {
            mode,
            cap_bytes,
            stdout_is_terminal,
            stderr_is_terminal: io::stderr().is_terminal(),
            quiet: quiet || globals.quiet,
            verbose: globals.verbose,
            results: places.results(),
            files_written: Arc::default(),
        }
    }

    /// Prints text that may come from an untrusted server, within the cap. `label` names the saved whole.
    ///
    /// # Errors
    /// When stdout or the state directory cannot be written.
    pub(crate) fn text(&self, label: &str, text: &str) -> Result<(), Failure> {
        let mut shown = if self.stdout_is_terminal {
            screen::neutral(text).into_owned()
        } else {
            text.to_owned()
        };
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        match self.cap_bytes {
            Some(cap) if shown.len() > cap => self.cut(label, &shown, cap),
            _ => self.raw(shown.as_bytes()),
        }
    }

    /// Prints one JSON document, within the cap and valid in any case.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub(crate) fn json(&self, label: &str, document: &str) -> Result<(), Failure> {
        match self.cap_bytes {
            Some(cap) if document.len() + 1 > cap => {
                let path = self.keep(&format!("{label}.json"), document.as_bytes())?;
                self.raw_line(&abridged(document, &path, cap))
            }
            _ => self.raw_line(document),
        }
    }

    /// Prints a list: one document, a document a line, or `text`'s line for each item.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub(crate) fn list(
        &self,
        label: &str,
        body: &Value,
        text: impl Fn(&Value) -> String,
    ) -> Result<(), Failure> {
        let empty = Vec::new();
        let items = body
            .get("items")
            .and_then(Value::as_array)
            .unwrap_or(&empty);
        match self.mode {
            Mode::Json => self.json(label, &body.to_string()),
            Mode::JsonLines => self.lines(label, items.iter().map(Value::to_string)),
            Mode::Text => self.lines(label, items.iter().map(text)),
        }?;
        if self.mode != Mode::Json && body.get("next_cursor").is_some_and(Value::is_string) {
            self.note("there is more; narrow it down or raise -n");
        }
        Ok(())
    }

    fn lines(&self, label: &str, lines: impl Iterator<Item = String>) -> Result<(), Failure> {
        let whole = lines.fold(String::new(), |mut whole, line| {
            whole.push_str(&line);
            whole.push('\n');
            whole
        });
        match (self.mode, self.cap_bytes) {
            (Mode::JsonLines, Some(cap)) if whole.len() > cap => {
                self.cut_json_lines(label, &whole, cap)
            }
            _ => self.text(label, &whole),
        }
    }

    /// Writes bytes as they are, without the cap: for what is meant to be redirected into a file.
    ///
    /// # Errors
    /// When stdout cannot be written; a reader that went away ends the verb quietly.
    #[expect(
        clippy::unused_self,
        reason = "stdout belongs to the output, although its handle is global"
    )]
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => Failure::reader_gone(),
                _ => Failure::local_io("stdout", &error),
            })
    }

    /// One line at once, for streams; without the cap.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub(crate) fn raw_line(&self, line: &str) -> Result<(), Failure> {
        let shown = if self.stdout_is_terminal {
            screen::neutral(line)
        } else {
            line.into()
        };
        self.raw(format!("{shown}\n").as_bytes())
    }

    /// A remark for people on stderr; silent with `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{}", screen::one_line(text));
        }
    }

    /// What a person has to know or nothing goes on: on stderr, whatever else is wished.
    #[expect(
        clippy::unused_self,
        reason = "stderr belongs to the output, although its handle is global"
    )]
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{}", screen::one_line(text));
    }

    /// What is being done; only with `--verbose`.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            let _ = writeln!(io::stderr(), "{}", screen::one_line(text));
        }
    }

    /// Progress of a streamed call: a bar that is redrawn on a terminal, a line elsewhere.
    pub(crate) fn progress(&self, done: Option<(f64, f64)>, message: &str) {
        if self.quiet {
            return;
        }
        let message = screen::one_line(message);
        let mut stderr = io::stderr();
        let _ = match (self.stderr_is_terminal, done) {
            (true, Some((now, total))) if total > 0.0 => {
                write!(stderr, "\r\x1b[K{} {message}", bar(now / total))
            }
            (false, Some((now, total))) => writeln!(stderr, "progress {now}/{total} {message}"),
            _ => writeln!(stderr, "{message}"),
        };
    }

    /// Ends a progress bar's line.
    pub(crate) fn progress_done(&self, drew: bool) {
        if drew && self.stderr_is_terminal && !self.quiet {
            let _ = writeln!(io::stderr());
        }
    }

    /// Keeps bytes in the state directory and tells where.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.results.join(self.file_name(name));
        files::replace(&path, bytes, Access::Private)
            .map_err(|error| Failure::local_io(&path.display().to_string(), &error))?;
        files::prune(&self.results, MAX_KEPT_RESULTS);
        Ok(path)
    }

    /// Unique on this machine: time, process and a counter. Only harmless characters of `name` survive.
    fn file_name(&self, name: &str) -> String {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let number = self.files_written.fetch_add(1, Ordering::Relaxed);
        let clean: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .take(80)
            .collect();
        format!("{millis}-{}-{number}-{clean}", std::process::id())
    }

    fn cut(&self, label: &str, shown: &str, cap: usize) -> Result<(), Failure> {
        let path = self.keep(&format!("{label}.txt"), shown.as_bytes())?;
        let end = shown.floor_char_boundary(cap);
        let head = &shown[..end];
        let gap = if head.ends_with('\n') { "" } else { "\n" };
        let mark = format!(
            "[truncated {end}/{} bytes; full: {}]\n",
            shown.len(),
            path.display()
        );
        self.raw(format!("{head}{gap}{mark}").as_bytes())
    }

    /// Whole lines only, so that each stays a document; the last one says what is missing.
    fn cut_json_lines(&self, label: &str, whole: &str, cap: usize) -> Result<(), Failure> {
        let path = self.keep(&format!("{label}.jsonl"), whole.as_bytes())?;
        let within = &whole[..whole.floor_char_boundary(cap)];
        let end = within.rfind('\n').map_or(0, |at| at + 1);
        let mark = truncation(end, whole.len(), &path);
        self.raw(format!("{}{}\n", &whole[..end], Value::Object(mark)).as_bytes())
    }
}

fn bar(share: f64) -> String {
    const WIDTH: usize = 24;
    let share = share.clamp(0.0, 1.0);
    let mut drawn = String::with_capacity(WIDTH + 8);
    for cell in 1..=WIDTH {
        #[expect(clippy::cast_precision_loss, reason = "both are below 25")]
        let filled = cell as f64 <= share * WIDTH as f64;
        drawn.push(if filled { '#' } else { '.' });
    }
    format!("[{drawn}] {:3.0}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_at_the_end_and_never_overflows() {
        assert_eq!(bar(0.5), "[############............]  50%");
        assert_eq!(bar(7.0), "[########################] 100%");
    }
}
