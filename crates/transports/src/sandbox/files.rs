//! Which files a server sees: the system's programs and libraries, a few devices, and what is listed.
//!
//! By Landlock, which also keeps it from looking into, tracing or signalling any process but its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::Sandbox;

/// The newest rights that are asked for; an older kernel grants those it knows.
const WANTED: ABI = ABI::V6;

/// Programs and libraries, to be read and run.
const PROGRAMS: [&str; 9] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
];

/// What every program reads at its start. Not all of `/etc`, which may hold the bridge's own file.
const SETTINGS: [&str; 28] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/terminfo",
    "/etc/timezone",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self",
    "/proc/stat",
    "/proc/version",
    "/sys/devices/system/cpu",
];

/// Devices without a state.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Restricts this process.
///
/// # Errors
/// Why files are not held, in words.
pub(super) fn restrict(
    asked: &Sandbox,
    program: &OsStr,
    lacking: &mut Vec<String>,
) -> Result<(), String> {
    let told = |error: landlock::RulesetError| format!("Landlock: {error}");
    for path in asked.read.iter().chain(&asked.write) {
        if !path.exists() {
            lacking.push(format!("`{}` does not exist", path.display()));
        }
    }
    let ruleset = ruleset(asked, program).map_err(told)?;
    let status = ruleset.restrict_self().map_err(told)?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => Ok(()),
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            lacking.push(format!(
                "this kernel's Landlock is {effective_abi:?}: it holds files, not all of signals, sockets and devices"
            ));
            Ok(())
        }
        _ => Err("this kernel has no Landlock, or it is switched off".to_owned()),
    }
}

fn ruleset(asked: &Sandbox, program: &OsStr) -> Result<RulesetCreated, landlock::RulesetError> {
    let read = AccessFs::from_read(WANTED);
    let all = AccessFs::from_all(WANTED);
    let look: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(PROGRAMS, read))?
        .add_rules(path_beneath_rules(SETTINGS, look))?
        .add_rules(path_beneath_rules(DEVICES, device))?
        .add_rules(path_beneath_rules(&asked.read, read))?
        .add_rules(path_beneath_rules(&asked.write, all))?;
    if let Some(file) = found(program).and_then(|path| PathFd::new(path).ok()) {
        rules = rules.add_rule(PathBeneath::new(
            file,
            AccessFs::Execute | AccessFs::ReadFile,
        ))?;
    }
    Ok(rules)
}

/// Where `execvp` will find the program.
fn found(program: &OsStr) -> Option<PathBuf> {
    let plain = Path::new(program);
    if plain.components().count() > 1 || plain.is_absolute() {
        return Some(plain.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
