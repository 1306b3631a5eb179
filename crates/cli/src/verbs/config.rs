//! `config`: checks, puts in place and shows configurations, the bridge's and the agents'.

use std::path::{Path, PathBuf};

use super::{daemon, import};
use crate::agent::check::{Plan, check};
use crate::agent::file::{self, AgentFile};
use crate::agent::kind::{self, Kind};
use crate::agent::{fault, find, shown};
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::options::Config;
use crate::output::{Mode, Output};
use crate::places::Places;

/// Runs one of the configuration verbs.
///
/// # Errors
/// Usage failures with their places, and when a file cannot be written.
pub(crate) fn run(verb: &Config, output: &Output, places: &Places) -> Result<(), Failure> {
    match verb {
        Config::Validate { file, kind } => {
            let file = match file {
                Some(file) => file.clone(),
                None => find::find(None, places)?,
            };
            match kind_of(&file, *kind)? {
                Kind::Bridge => daemon::validate(&file),
                Kind::Agent => {
                    let plan = plan(&file)?;
                    let count = plan.servers.len();
                    output.raw_line(&format!("valid: agent {}, {count} servers", plan.id))
                }
            }
        }
        Config::Apply { file, to, kind } => apply(
            &Applied {
                file,
                to: to.as_deref(),
                kind: *kind,
            },
            output,
            places,
        ),
        Config::Show { file } => {
            let file = find::find(file.as_deref(), places)?;
            show(&file, output)
        }
        Config::Import { source, write } => {
            import::import(source, write.as_deref(), output, places)
        }
    }
}

/// Reads and checks an agent's file.
///
/// # Errors
/// Every complaint with its place.
pub(crate) fn plan(path: &Path) -> Result<Plan, Failure> {
    let file = AgentFile::load(path)?;
    check(&file, &folder_of(path)).map_err(|faults| fault::failure(&file::name_of(path), &faults))
}

/// The whole path of the directory a file lies in.
fn folder_of(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    whole.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn kind_of(path: &Path, told: Option<Kind>) -> Result<Kind, Failure> {
    match told {
        Some(kind) => Ok(kind),
        None => Ok(kind::of(&file::read(path)?)),
    }
}

struct Applied<'a> {
    file: &'a Path,
    to: Option<&'a Path>,
    kind: Option<Kind>,
}

/// Nothing is written before the whole is known to be right.
fn apply(applied: &Applied<'_>, output: &Output, places: &Places) -> Result<(), Failure> {
    let text = file::read(applied.file)?;
    let kind = applied.kind.unwrap_or_else(|| kind::of(&text));
    let target = match (kind, applied.to) {
        (_, Some(to)) => to.to_path_buf(),
        (Kind::Agent, None) => places.agent_config(),
        (Kind::Bridge, None) => {
            return Err(Failure::usage(
                "this is a bridge's configuration; --to says which file its daemon was started with",
            ));
        }
    };
    match kind {
        Kind::Bridge => daemon::validate(applied.file)?,
        Kind::Agent => {
            // Relative paths in it will go from where it is going to lie.
            let name = file::name_of(applied.file);
            let parsed = AgentFile::parse(&text).map_err(|one| fault::failure(&name, &[one]))?;
            check(&parsed, &folder_of(&target)).map_err(|all| fault::failure(&name, &all))?;
        }
    }
    let failed = |error: std::io::Error| Failure::local_io(&target.display().to_string(), &error);
    let unchanged = std::fs::read(&target).is_ok_and(|old| old == text.as_bytes());
    let backup = if unchanged {
        None
    } else {
        files::back_up_secret(&target).map_err(failed)?
    };
    files::replace(&target, text.as_bytes(), Access::Secret).map_err(failed)?;
    if let Some(backup) = backup {
        output.note(&format!("the old file is kept as {}", backup.display()));
    }
    output.note(match kind {
        Kind::Agent => "a running agent takes it up when it is started again",
        Kind::Bridge => "a running bridge takes it up by itself",
    });
    output.raw_line(&target.display().to_string())
}

fn show(path: &Path, output: &Output) -> Result<(), Failure> {
    let text = file::read(path)?;
    if kind::of(&text) == Kind::Bridge {
        return Err(Failure::usage(format!(
            "{} is a bridge's configuration; its secrets are references, so read the file itself",
            path.display()
        )));
    }
    let parsed =
        AgentFile::parse(&text).map_err(|one| fault::failure(&file::name_of(path), &[one]))?;
    let document = shown::shown(&parsed);
    output.note(&path.display().to_string());
    match output.mode {
        Mode::Text => {
            let yaml =
                crate::yaml::write(&document).map_err(|error| Failure::usage(error.to_string()))?;
            output.raw(yaml.as_bytes())
        }
        _ => output.raw_line(&document.to_string()),
    }
}
