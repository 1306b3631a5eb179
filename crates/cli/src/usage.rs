//! Command lines that are not quite right: operation names, near misses, verbs of later versions.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory as _, error::Error};

use crate::failure::Failure;
use crate::options::CommandLine;

/// Operations whose verb has two words.
const TWO_WORDS: [(&str, [&str; 2]); 15] = [
    ("open_session", ["session", "open"]),
    ("list_sessions", ["session", "list"]),
    ("inspect_session", ["session", "inspect"]),
    ("close_session", ["session", "close"]),
    ("refresh_session", ["session", "refresh"]),
    ("list_calls", ["calls", "list"]),
    ("get_call", ["calls", "get"]),
    ("cancel_call", ["calls", "cancel"]),
    ("list_servers", ["server", "list"]),
    ("list_resource_templates", ["resources", "--templates"]),
    ("stream_events", ["events", "--follow"]),
    ("stream_call", ["calls", "wait"]),
    ("list_audit", ["audit", "list"]),
    ("list_agents", ["agent", "list"]),
    ("list_credentials", ["credentials", "list"]),
];

/// Global options that take the next word as their value.
const VALUED: [&str; 5] = [
    "--url",
    "--token-file",
    "--profile",
    "--workspace",
    "--max-bytes",
];

/// What somebody types who looks for the daemon.
const DAEMON_VERBS: [&str; 3] = ["serve", "start", "daemon"];

/// What begins the lines of clap that are no message.
const ENDS: [&str; 3] = ["Usage:", "tip:", "For more information"];

/// A verb less alike than this is no near miss.
const NEAR: f64 = 0.75;

/// Replaces an operation's name in the verb's place by our two words.
#[must_use]
pub(crate) fn spelled_out(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = arguments.collect();
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        if VALUED.contains(&word) {
            at += 2;
        } else if word.starts_with('-') {
            at += 1;
        } else {
            if let Some((_, verb)) = TWO_WORDS.iter().find(|(name, _)| *name == word) {
                let verb = verb.iter().map(OsString::from);
                words.splice(at..=at, verb);
            }
            break;
        }
    }
    words
}

/// The verb on a command line, as far as it is one: its words and what clap knows of it.
fn verb_of(arguments: &[OsString]) -> (Vec<String>, Command) {
    let mut command = CommandLine::command();
    let mut path = Vec::new();
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        if VALUED.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            let Some(verb) = command.find_subcommand(word).cloned() else {
                break;
            };
            path.push(verb.get_name().to_owned());
            command = verb;
        }
    }
    (path, command)
}

/// What to say when a verb of two words has one.
fn halved(path: &[String], command: &Command) -> Failure {
    let verb = path.join(" ");
    let more: Vec<&str> = command
        .get_subcommands()
        .map(Command::get_name)
        .filter(|name| *name != "help")
        .collect();
    Failure::usage(format!("`{verb}` needs a second word: {}", more.join(", ")))
        .hint(format!("see `paperbot-mcp {verb} --help`"))
}

/// Help and version are answers; anything else is a usage failure in one line.
///
/// # Errors
/// Always, but for help and version.
pub(crate) fn refuse(error: &Error, arguments: &[OsString]) -> Result<(), Failure> {
    let (path, command) = verb_of(arguments);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error
            .print()
            .map_err(|error| Failure::local_io("stdout", &error)),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            if !path.is_empty() {
                return Err(halved(&path, &command));
            }
            Err(Failure::usage("a verb is missing").hint(
                "the first three: find WORDS, help REF, call REF k=v; all: paperbot-mcp --help",
            ))
        }
        _ => Err(explained(error, &path)),
    }
}

fn explained(error: &Error, path: &[String]) -> Failure {
    let word = [ContextKind::InvalidSubcommand, ContextKind::InvalidValue]
        .iter()
        .find_map(|kind| single(error, *kind))
        .unwrap_or_default();
    let no_verb = error.kind() == ErrorKind::InvalidSubcommand;
    let message = first_line(error);
    let near = if no_verb { nearest(&word) } else { None }.or_else(|| {
        let suggestions = [
            ContextKind::SuggestedSubcommand,
            ContextKind::SuggestedArg,
            ContextKind::SuggestedValue,
        ];
        suggestions.iter().find_map(|kind| single(error, *kind))
    });
    let failure = Failure::usage(message);
    if no_verb && path.is_empty() && DAEMON_VERBS.contains(&word.as_str()) {
        return failure
            .hint("the bridge is a program of its own: `paperbot-mcpd serve --config FILE`");
    }
    let given = single(error, ContextKind::InvalidArg).unwrap_or_default();
    if let Some(form) = form_of(error.kind(), path, &given) {
        let near = near.map_or(String::new(), |near| format!("; or did you mean `{near}`?"));
        return failure.hint(format!("{form}{near}"));
    }
    match near {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint("see `paperbot-mcp --help`, or `paperbot-mcp VERB --help`"),
    }
}

/// How a verb takes what it was given in another form.
fn form_of(kind: ErrorKind, path: &[String], given: &str) -> Option<&'static str> {
    if kind != ErrorKind::UnknownArgument {
        return None;
    }
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["call" | "prompt"] if given.starts_with('-') => {
            Some("arguments are given as name=value, as in `call demo.add a=1 b=2`")
        }
        ["server", "add" | "set"] if !given.starts_with("--") => {
            Some("put the command after `--`, as in `server add NAME -- npx -y PACKAGE`")
        }
        _ => None,
    }
}

fn single(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(many) => many.first().cloned(),
        _ => None,
    }
}

/// Clap's message without its prefix, tips and usage; those are in the hint.
fn first_line(error: &Error) -> String {
    let text = error.to_string();
    let body = text.strip_prefix("error: ").unwrap_or(&text);
    let mut lines = body
        .lines()
        .map(str::trim)
        .take_while(|line| !ENDS.iter().any(|end| line.starts_with(end)))
        .filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("wrong usage").to_owned();
    lines.fold(first, |whole, line| format!("{whole} {line}"))
}

/// The most alike verb, aliases and operation names included.
fn nearest(word: &str) -> Option<String> {
    let command = CommandLine::command();
    let names = command.get_subcommands().flat_map(|verb| {
        let own = std::iter::once(verb.get_name().to_owned());
        own.chain(verb.get_all_aliases().map(str::to_owned))
            .collect::<Vec<_>>()
    });
    let operations = TWO_WORDS.iter().map(|(name, _)| (*name).to_owned());
    names
        .chain(operations)
        .map(|name| (strsim::jaro_winkler(word, &name), name))
        .filter(|(alike, _)| *alike >= NEAR)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        spelled_out(line.split(' ').map(OsString::from))
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn operation_names_become_verbs_in_the_verbs_place_alone() {
        assert_eq!(words("x open_session a"), ["x", "session", "open", "a"]);
        assert_eq!(
            words("x --url u --json get_call c"),
            ["x", "--url", "u", "--json", "calls", "get", "c"]
        );
        assert_eq!(words("x find open_session"), ["x", "find", "open_session"]);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }
}
