//! Logs on stderr, as JSON or text. Whatever they say, they hold no argument, result, token or header.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::LogFormat;
use crate::config::sections::Log;

/// What libraries may say: rmcp tells whole messages at info, sqlx tells statements.
const QUIET: [&str; 4] = ["rmcp=warn", "hyper=warn", "hyper_util=warn", "sqlx=warn"];

/// Starts logging; does nothing when it was started before.
pub fn start(log: &Log) {
    let filter = filter(&log.level);
    let builder = fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // Someone else's subscriber (a test's) stays.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(false).compact().try_init(),
    };
}

fn filter(level: &str) -> EnvFilter {
    let wanted = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    QUIET
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(wanted, EnvFilter::add_directive)
}
