//! The agent's log: lines on stderr, with every secret of its file taken out of them again.
//!
//! A whole subscriber crate would weigh more than the agent; this one knows levels, targets and fields.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use secrecy::{ExposeSecret as _, SecretString};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::{moment, screen};

/// Shorter values are not taken out: they would tear ordinary words apart.
const MIN_REDACTED_BYTES: usize = 6;
/// What stands in place of a secret.
const MASK: &str = "[redacted]";
/// Longest line.
const MAX_LINE_BYTES: usize = 4096;

/// Values that never stand in a line. Shared, because the token may change while the agent runs.
#[derive(Clone, Default)]
pub(crate) struct Redactions(Arc<Mutex<Vec<SecretString>>>);

impl fmt::Debug for Redactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactions")
    }
}

impl Redactions {
    /// One more.
    pub(crate) fn add(&self, secret: SecretString) {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |one: &SecretString| one.expose_secret() == secret.expose_secret();
        if secret.expose_secret().len() >= MIN_REDACTED_BYTES && !secrets.iter().any(known) {
            secrets.push(secret);
        }
    }

    fn clean(&self, line: String) -> String {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(line, |line, secret| {
            if line.contains(secret.expose_secret()) {
                line.replace(secret.expose_secret(), MASK)
            } else {
                line
            }
        })
    }
}

/// Where finished lines go.
pub(crate) trait Sink: Send + Sync + 'static {
    /// Takes a line.
    fn line(&self, line: fmt::Arguments<'_>);
}

/// The process's stderr.
#[derive(Debug)]
pub(crate) struct Stderr;

impl Sink for Stderr {
    fn line(&self, line: fmt::Arguments<'_>) {
        // A closed stderr leaves nobody to tell.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Writes events as lines.
#[derive(Debug)]
pub(crate) struct Log<S> {
    least: Level,
    redactions: Redactions,
    to: S,
}

/// On stderr.
pub(crate) type StderrLog = Log<Stderr>;

impl StderrLog {
    /// From this level on.
    pub(crate) fn new(least: Level, redactions: Redactions) -> Self {
        let to = Stderr;
        Self {
            least,
            redactions,
            to,
        }
    }
}

impl<S: Sink> Subscriber for Log<S> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = ["transports", "paperbot"];
        *metadata.level() <= self.least
            && ours.iter().any(|name| metadata.target().starts_with(name))
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let line = self.redactions.clean(words.message + &words.fields);
        let line = screen::one_line(&line);
        let end = line.floor_char_boundary(MAX_LINE_BYTES);
        let time = moment::rfc3339(SystemTime::now());
        let level = event.metadata().level().as_str();
        self.to
            .line(format_args!("{time} {level} {}", &line[..end]));
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.fields, " {}={value}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a log at `least` writes of what `say` says.
    fn logged(redactions: &Redactions, say: impl FnOnce()) -> String {
        let lines = Arc::<Mutex<Vec<u8>>>::default();
        let log = Log {
            least: Level::DEBUG,
            redactions: redactions.clone(),
            to: Kept(Arc::clone(&lines)),
        };
        tracing::subscriber::with_default(log, say);
        let lines = lines.lock().unwrap().clone();
        String::from_utf8(lines).unwrap()
    }

    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Sink for Kept {
        fn line(&self, line: fmt::Arguments<'_>) {
            writeln!(self.0.lock().unwrap(), "{line}").unwrap();
        }
    }

    #[test]
    fn no_secret_stands_in_a_line_wherever_it_is_said() {
        let redactions = Redactions::default();
        redactions.add(SecretString::from("s3cr3t_k3y"));
        let error = std::io::Error::other("answer: s3cr3t_k3y?");
        let text = logged(&redactions, || {
            tracing::warn!(target: "paperbot_cli", why = "Bearer s3cr3t_k3y", "refused s3cr3t_k3y");
            tracing::error!(target: "transports", %error, "s3cr3t_", );
            redactions.add(SecretString::from("another_t0ken"));
            tracing::info!(target: "transports", token = ?"another_t0ken", "a new token");
        });
        assert!(
            !text.contains("s3cr3t_k3y") && !text.contains("t0ken"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 3, "{text}");
        assert_eq!(text.matches(MASK).count(), 4, "{text}");
        assert!(
            text.contains("refused") && text.contains("answer"),
            "{text}"
        );
    }
}
