//! Logs on stderr, as JSON or text. Whatever they say, they hold no argument, result, token or header.

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;
use crate::config::sections::Log;
use crate::traced::WithTrace;

/// Levels by name.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// What libraries may say: rmcp tells whole messages at info, sqlx tells statements.
const QUIET: [&str; 4] = ["rmcp=warn", "hyper=warn", "hyper_util=warn", "sqlx=warn"];

/// Starts logging; does nothing when it was started before.
pub fn start(log: &Log) {
    // Someone else's subscriber (a test's) stays.
    let _ = subscriber(&log.level, log.format, std::io::stderr).try_init();
}

/// What writes the log: a line for each event, with the trace it belongs to.
pub(crate) fn subscriber<W>(
    level: &str,
    format: LogFormat,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = fmt().with_writer(writer).with_env_filter(filter(level));
    match format {
        LogFormat::Json => Box::new(
            builder
                .json()
                .map_event_format(|lines| WithTrace {
                    lines: lines.flatten_event(true),
                    end: "}\n",
                    member: [r#","trace_id":""#, r#"""#],
                })
                .finish(),
        ),
        LogFormat::Text => Box::new(
            builder
                .with_ansi(false)
                .compact()
                .map_event_format(|lines| WithTrace {
                    lines,
                    end: "\n",
                    member: [" trace_id=", ""],
                })
                .finish(),
        ),
    }
}

/// Whether a level, or directives such as `info,broker=debug`, says what it seems to say: a word that is no level
/// would be taken for the name of a module.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn check(level: &str) -> Result<(), String> {
    // No word at all would be read as `error`.
    let known = |word: &str| !word.trim().is_empty() && word.trim().parse::<LevelFilter>().is_ok();
    // Directives about spans hold commas and signs of their own.
    if !level.contains('[') {
        for directive in level.split(',') {
            let word = directive.rsplit('=').next().unwrap_or_default();
            if !known(word) {
                return Err(crate::suggestion::unknown("level", word.trim(), LEVELS));
            }
        }
    }
    let parsed = EnvFilter::try_new(level).map(drop);
    parsed.map_err(|_| {
        format!(
            "expected one of {}, or info,broker=debug",
            LEVELS.join(", ")
        )
    })
}

fn filter(level: &str) -> EnvFilter {
    let wanted = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    QUIET
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(wanted, EnvFilter::add_directive)
}
