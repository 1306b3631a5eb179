//! `connect`: installs the skill where a host agent looks for it. Shows the difference; writes only when told.
//! Each host has a list of files to bring about (`plan`); an MCP entry in the host's own configuration
//! joins that list once the bridge has an MCP face.

use std::io;
use std::path::{Path, PathBuf};

use similar::TextDiff;

use crate::failure::Failure;
use crate::files::{self, Access};
use crate::options::{Connect, Host, Scope};
use crate::output::Output;
use crate::places::Places;
use crate::verbs::skill;

/// One file as it should be.
#[derive(Debug)]
struct Wanted {
    path: PathBuf,
    before: Option<String>,
    after: String,
}

/// Shows what would change, or changes it.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn connect(connect: &Connect, output: &Output, places: &Places) -> Result<(), Failure> {
    let mut changes = 0_usize;
    for path in plan(connect.host, connect.scope, places) {
        let wanted = Wanted {
            before: read(&path)?,
            after: skill::SKILL.to_owned(),
            path,
        };
        let shown = wanted.path.display().to_string();
        if wanted.before.as_deref() == Some(wanted.after.as_str()) {
            output.note(&format!("{shown} is up to date"));
            continue;
        }
        changes += 1;
        if connect.write {
            write(&wanted, output)?;
        } else {
            output.raw_line(wanted.difference().trim_end())?;
        }
    }
    if changes > 0 && !connect.write {
        output.note("nothing was written; add --write to do so");
    }
    Ok(())
}

impl Wanted {
    fn difference(&self) -> String {
        let before = self.before.as_deref().unwrap_or_default();
        let shown = self.path.display().to_string();
        let old = if self.before.is_some() {
            shown.as_str()
        } else {
            "/dev/null"
        };
        TextDiff::from_lines(before, self.after.as_str())
            .unified_diff()
            .header(old, &shown)
            .to_string()
    }
}

fn write(wanted: &Wanted, output: &Output) -> Result<(), Failure> {
    let shown = wanted.path.display().to_string();
    let failed = |error: io::Error| Failure::local_io(&shown, &error);
    if let Some(copy) = files::back_up(&wanted.path).map_err(failed)? {
        output.note(&format!("the old file is kept as {}", copy.display()));
    }
    files::replace(&wanted.path, wanted.after.as_bytes(), Access::Usual).map_err(failed)?;
    output.raw_line(&format!("wrote {shown}"))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::local_io(&path.display().to_string(), &error)),
    }
}

/// The files a host reads, by scope: its skills directory for now.
fn plan(host: Host, scope: Scope, places: &Places) -> Vec<PathBuf> {
    let skills = match (scope, host) {
        (Scope::User, Host::Opencode) => places.config_home.join("opencode/skills"),
        (Scope::User, host) => places.home.join(match host {
            Host::ClaudeCode => ".claude/skills",
            // Codex reads the directory that hosts share.
            Host::Codex | Host::Opencode => ".agents/skills",
            Host::Cursor => ".cursor/skills",
            Host::Vscode => ".copilot/skills",
            Host::Gemini => ".gemini/skills",
        }),
        (Scope::Project, host) => PathBuf::from(match host {
            Host::ClaudeCode => ".claude/skills",
            Host::Codex => ".agents/skills",
            Host::Opencode => ".opencode/skills",
            Host::Cursor => ".cursor/skills",
            Host::Vscode => ".github/skills",
            Host::Gemini => ".gemini/skills",
        }),
    };
    vec![skills.join(skill::NAME).join("SKILL.md")]
}
