//! `agent install` and `uninstall`: a systemd user unit, shown unless it is to be written.

use std::path::{Path, PathBuf};

use crate::agent::{check, find};
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::options::{Install, Uninstall};
use crate::output::Output;
use crate::places::Places;
use crate::verbs::config;

/// Prints or writes the unit. Starts nothing; the note says how.
///
/// # Errors
/// When the agent's file is not right, or the unit cannot be written.
pub(crate) fn install(options: &Install, output: &Output, places: &Places) -> Result<(), Failure> {
    let file = find::find(options.file.config.as_deref(), places)?;
    let plan = config::plan(&file)?;
    let text = unit(&plan, &file)?;
    if !options.write {
        output.note("nothing was changed; --write puts this unit in place");
        return output.raw(text.as_bytes());
    }
    let path = unit_path(&plan.id, places);
    files::replace(&path, text.as_bytes(), Access::Usual)
        .map_err(|error| Failure::local_io(&path.display().to_string(), &error))?;
    let name = unit_name(&plan.id);
    output.note(&format!(
        "now: systemctl --user daemon-reload && systemctl --user enable --now {name} (and `loginctl enable-linger` to run it without a login)"
    ));
    output.raw_line(&path.display().to_string())
}

/// Names or removes the unit.
///
/// # Errors
/// When there is none, or it cannot be removed.
pub(crate) fn uninstall(
    options: &Uninstall,
    output: &Output,
    places: &Places,
) -> Result<(), Failure> {
    let file = find::find(options.file.config.as_deref(), places)?;
    let plan = config::plan(&file)?;
    let (path, name) = (unit_path(&plan.id, places), unit_name(&plan.id));
    if !path.exists() {
        return Err(Failure::usage(format!(
            "there is no unit {}",
            path.display()
        )));
    }
    if options.write {
        std::fs::remove_file(&path)
            .map_err(|error| Failure::local_io(&path.display().to_string(), &error))?;
        output.note(&format!("it may still run: systemctl --user disable --now {name} && systemctl --user daemon-reload"));
    } else {
        output.note("nothing was changed; --write removes this unit");
    }
    output.raw_line(&path.display().to_string())
}

fn unit_name(id: &str) -> String {
    format!("paperbot-agent-{id}.service")
}

fn unit_path(id: &str, places: &Places) -> PathBuf {
    places.config_home.join("systemd/user").join(unit_name(id))
}

fn unit(plan: &check::Plan, file: &Path) -> Result<String, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::local_io("this program's own path", &error))?;
    let file = std::path::absolute(file)
        .map_err(|error| Failure::local_io(&file.display().to_string(), &error))?;
    let (program, file) = (quoted(&program)?, quoted(&file)?);
    let host = plan.url.host_str().unwrap_or_default();
    // KillMode: the agent ends its servers itself, each with its whole tree; what is left after that is killed.
    Ok(format!(
        "[Unit]\n\
         Description=PaperBot agent {id} for {host}\n\
         Documentation=man:systemd.service(5)\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={program} agent run --config {file}\n\
         Restart=always\n\
         RestartSec=2\n\
         RestartPreventExitStatus=2\n\
         KillMode=mixed\n\
         TimeoutStopSec=20\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        id = plan.id,
    ))
}

/// A word of a unit's command line: systemd reads quotes, backslashes, `%` and `$` in it.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(char::is_control))
        .ok_or_else(|| Failure::usage(format!("{} cannot stand in a unit", path.display())))?;
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}
