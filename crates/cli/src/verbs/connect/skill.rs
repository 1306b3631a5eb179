//! Where each host looks for skills: the way without MCP, by running this program in a shell.

use std::path::PathBuf;

use super::{Wanted, read};
use crate::failure::Failure;
use crate::files::Access;
use crate::options::{Host, Scope};
use crate::places::Places;
use crate::verbs::skill;

/// The skill's file as it should be.
///
/// # Errors
/// When the file that is there cannot be read.
pub(super) fn wanted(host: Host, scope: Scope, places: &Places) -> Result<Wanted, Failure> {
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
    let path = skills.join(skill::NAME).join("SKILL.md");
    Ok(Wanted {
        before: read(&path)?,
        after: skill::SKILL.to_owned(),
        access: Access::Usual,
        path,
    })
}
