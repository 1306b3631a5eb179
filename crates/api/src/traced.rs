//! Which trace a line of the log belongs to.
//!
//! A span would say it too, and costs each request a place in the registry and a formatted text, also when nothing is
//! logged. Here a request only leaves its trace's number in its thread while it is worked on, and whoever writes a
//! line looks there.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

thread_local! {
    /// The trace of what this thread works on.
    static CURRENT: Cell<Option<u128>> = const { Cell::new(None) };
}

/// Puts back what was there before, also when a poll panics.
struct Before(Option<u128>);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Does something within a trace.
pub(crate) fn within<T>(trace: u128, work: impl FnOnce() -> T) -> T {
    let _before = Before(CURRENT.replace(Some(trace)));
    work()
}

/// The same for what goes on over some time; what it spawns is not part of it.
pub(crate) async fn traced<F: Future>(trace: u128, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| within(trace, || future.as_mut().poll(cx))).await
}

/// Lines of the log with the trace at their end: a member `trace_id` of JSON, `trace_id=…` of text.
#[derive(Debug)]
pub(crate) struct WithTrace<F> {
    pub(crate) lines: F,
    /// What stands behind the last member of a line.
    pub(crate) end: &'static str,
    /// How the trace is written there, up to its number and after it.
    pub(crate) member: [&'static str; 2],
}

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(trace) = CURRENT.get() else {
            return self.lines.format_event(context, writer, event);
        };
        let mut line = String::with_capacity(256);
        self.lines
            .format_event(context, Writer::new(&mut line), event)?;
        let Some(body) = line.strip_suffix(self.end) else {
            return writer.write_str(&line);
        };
        let [before, after] = self.member;
        write!(writer, "{body}{before}{trace:032x}{after}{}", self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::LogFormat;
    use crate::logging;

    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged within a trace, after it, and after a panic within it.
    fn lines(format: LogFormat) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = logging::subscriber("info", format, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            within(7, || tracing::info!(a = 1, "inside"));
            let _ = std::panic::catch_unwind(|| within(8, || panic!("on purpose")));
            tracing::info!("outside");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_says_its_trace_once_and_a_line_of_no_request_none() {
        let json: Vec<serde_json::Value> = lines(LogFormat::Json)
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(json.len(), 2);
        assert_eq!(json[0]["trace_id"], format!("{:032x}", 7));
        assert_eq!(
            (&json[0]["a"], &json[0]["message"]),
            (&1.into(), &"inside".into())
        );
        assert_eq!(json[1].get("trace_id"), None);
        let text = lines(LogFormat::Text);
        assert!(
            text[0].ends_with(&format!(" trace_id={:032x}", 7)),
            "{text:?}"
        );
        assert!(!text[1].contains("trace_id"), "{text:?}");
    }

    #[tokio::test]
    async fn what_waits_leaves_its_trace_to_nobody() {
        let trace = 9;
        let (told, heard) = tokio::sync::oneshot::channel::<()>();
        let waiting = traced(trace, async {
            let before = CURRENT.get();
            heard.await.unwrap();
            (before, CURRENT.get())
        });
        let meanwhile = async {
            tokio::task::yield_now().await;
            let seen = CURRENT.get();
            told.send(()).unwrap();
            seen
        };
        let (inside, outside) = tokio::join!(waiting, meanwhile);
        assert_eq!((inside, outside), ((Some(trace), Some(trace)), None));
    }
}
