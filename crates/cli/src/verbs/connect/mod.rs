//! `connect`: makes a host use the bridge, by one entry in the file it reads or by a skill. Shows the
//! difference; writes only when told, whole, with a backup. A key is never written.

mod entry;
mod hosts;
mod json;
mod shown;
mod skill;
mod toml;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::entry::{Entry, PROGRAM, Refused, TOKEN_VARIABLE};
use self::hosts::Way;
use crate::bridge::segment;
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::options::{Connect, Globals, Host, Scope, Via};
use crate::output::Output;
use crate::places::Places;
use crate::settings::{DEFAULT_URL, Settings};

/// One file as it should be.
#[derive(Debug)]
struct Wanted {
    path: PathBuf,
    before: Option<String>,
    after: String,
    access: Access,
}

/// Shows what would change, or changes it.
///
/// # Errors
/// When the file cannot be read, understood or written, or its entry is another server's.
pub(crate) fn connect(
    connect: &Connect,
    globals: &Globals,
    output: &Output,
    places: &Places,
) -> Result<(), Failure> {
    if connect.via == Via::Skill {
        let wanted = skill::wanted(connect.host, connect.scope, places)?;
        return bring_about(&wanted, connect.write, output).map(drop);
    }
    check_names(connect)?;
    let (settings, token_file) = Settings::whereabouts(globals, places)?;
    let server = connect.server.as_deref();
    let path = server.map_or("/mcp".to_owned(), |server| {
        format!("/mcp/{}", segment(server))
    });
    let way = Way {
        via: connect.via,
        url: settings.address(&path).to_string(),
        workspace: settings.workspace.as_deref(),
        arguments: arguments(server, globals, &settings),
    };
    let by_default = server.map_or("paperbot".to_owned(), |server| format!("paperbot-{server}"));
    let name = connect.name.clone().unwrap_or(by_default);
    let file = hosts::file(connect.host, connect.scope, places);
    let before = read(&file)?;
    let text = before.as_deref().unwrap_or_default();
    let refused = |why: Refused| refusal(&file, &why);
    let after = match connect.host {
        Host::Codex => {
            let entry = hosts::entry(connect.host, name, &way, &Value::Null);
            toml::with_entry(text, &entry)
        }
        host => {
            let document = json::read(text).map_err(refused)?;
            let entry: Entry = hosts::entry(host, name, &way, &document);
            json::with_entry(text, &entry)
        }
    };
    let wanted = Wanted {
        after: after.map_err(refused)?,
        before,
        access: match connect.scope {
            Scope::User => Access::Private,
            Scope::Project => Access::Usual,
        },
        path: file,
    };
    if bring_about(&wanted, connect.write, output)? {
        let key = token_file.unwrap_or_else(|| places.admin_key());
        explain(connect, &settings, output, &key);
    }
    Ok(())
}

/// Names that hosts and the bridge take.
fn check_names(connect: &Connect) -> Result<(), Failure> {
    if let Some(server) = &connect.server {
        transports::ServerName::new(server)
            .map_err(|error| Failure::usage(format!("--server: {error}")))?;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match &connect.name {
        Some(name) if name.is_empty() || !name.chars().all(plain) => Err(Failure::usage(
            "--name takes letters, digits, `-` and `_`: hosts make names of tools of it",
        )),
        _ => Ok(()),
    }
}

/// What is left for a person to do.
fn explain(connect: &Connect, settings: &Settings, output: &Output, key: &Path) {
    match (connect.via, connect.host) {
        (Via::Http, Host::Vscode) => output.note(&format!(
            "VS Code asks for the key when it starts the server; look for it in {}",
            key.display()
        )),
        (Via::Http, _) => output.note(&format!(
            "the host takes the key from its environment: export {TOKEN_VARIABLE}=\"$(cat {})\" before it starts, or use --via stdio, which finds the key by itself",
            key.display()
        )),
        (Via::Stdio | Via::Skill, _) => {
            if !in_path() {
                output.note(&format!(
                    "{PROGRAM} is not in PATH; the host will not find it until it is"
                ));
            }
        }
    }
    if connect.via == Via::Http && settings.url.scheme() == "http" && !settings.is_local() {
        output.note("the key would go unencrypted over the network; use an https address");
    }
}

/// What the host starts this program with: where the bridge is, unless that is where it looks anyway.
fn arguments(server: Option<&str>, globals: &Globals, settings: &Settings) -> Vec<String> {
    let mut arguments = vec!["mcp".to_owned()];
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            arguments.extend([name.to_owned(), value]);
        }
    };
    option("--server", server.map(str::to_owned));
    option("--profile", globals.profile.clone());
    let url = settings.url.as_str().trim_end_matches('/');
    let named = globals.profile.is_none() || globals.url.is_some();
    option(
        "--url",
        (url != DEFAULT_URL && named).then(|| url.to_owned()),
    );
    let token_file = globals.token_file.as_ref();
    let token_file = token_file.map(|file| std::path::absolute(file).unwrap_or(file.clone()));
    option(
        "--token-file",
        token_file.map(|file| file.display().to_string()),
    );
    option("--workspace", globals.workspace.clone());
    arguments
}

/// Shows the difference or writes it; whether there is one.
fn bring_about(wanted: &Wanted, write: bool, output: &Output) -> Result<bool, Failure> {
    let shown = wanted.path.display().to_string();
    if wanted.before.as_deref() == Some(wanted.after.as_str()) {
        output.note(&format!("nothing to do: {shown} is up to date"));
        return Ok(false);
    }
    if write {
        self::write(wanted, output)?;
    } else {
        let before = wanted.before.as_deref();
        output.raw_line(&shown::difference(&shown, before, &wanted.after))?;
        output.note("nothing was written; add --write to do so");
    }
    Ok(true)
}

fn write(wanted: &Wanted, output: &Output) -> Result<(), Failure> {
    let shown = wanted.path.display().to_string();
    let failed = |error: io::Error| Failure::local_io(&shown, &error);
    // Hosts write these files themselves, some of them often.
    if read(&wanted.path)? != wanted.before {
        let message = format!("{shown} was changed meanwhile; nothing was written");
        return Err(Failure::usage(message).hint("run it again, best while the host is closed"));
    }
    if let Some(copy) = files::back_up(&wanted.path).map_err(failed)? {
        output.note(&format!("the old file is kept as {}", copy.display()));
    }
    files::replace(&wanted.path, wanted.after.as_bytes(), wanted.access).map_err(failed)?;
    output.raw_line(&format!("wrote {shown}"))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::local_io(&path.display().to_string(), &error)),
    }
}

fn refusal(file: &Path, why: &Refused) -> Failure {
    let failure = Failure::usage(format!("{}: {why}", file.display()));
    match why {
        Refused::Taken(_) => failure.hint("choose another name with --name, or rename that entry"),
        Refused::Syntax { .. } | Refused::Shape(_) | Refused::Unsafe => failure.hint(
            "nothing was changed; correct the file, or add the entry by hand (docs/hosts.md)",
        ),
    }
}

fn in_path() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).any(|directory| directory.join(&program).is_file())
}
