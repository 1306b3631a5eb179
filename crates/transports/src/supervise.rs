//! Holds a child's whole process tree, and lets none of it outlive the bridge.
//!
//! The program re-executes itself as a small single-threaded supervisor between itself and the server.
//! The supervisor is a subreaper (what double-forks away comes back to it), asks the kernel for a SIGTERM
//! when the bridge dies, and kills everything below it before it leaves. It copies no byte: the server
//! inherits the pipes. Just before it becomes the server, the server's own process takes its `sandbox` on. Should the supervisor itself be killed, the kernel kills the server (which asked for
//! it just before it became the server), and the bridge what is left of the tree (`tree`).

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, alarm, dup2_stderr, dup2_stdin, dup2_stdout, getppid};
use tokio::process::Child;
use tokio::runtime::Handle;

use crate::sandbox::{self, Sandbox};
use crate::tree::{children_of, tasks_below};

/// First argument of a supervisor process.
const MARKER: &str = "--paperbot-supervise";
/// First argument of a process that is about to become a server.
const SERVER_MARKER: &str = "--paperbot-become";
/// This program, even after it was replaced on the disk.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Seconds between SIGTERM and SIGKILL for the server's group.
const TERM_GRACE_S: u32 = 1;
/// How often the processes of a tree are counted; a bomb of forks has that long.
const COUNT_EVERY_S: u32 = 2;
/// Rounds of "kill every child" before the supervisor gives up on a tree that forks faster than it dies.
const MAX_KILL_ROUNDS: usize = 10_000;
/// Exit code when the server could not be started, as shells have it.
const EXIT_NOT_STARTED: u8 = 127;
/// Spawn requests waiting for the spawning thread.
const SPAWN_QUEUE: usize = 256;
/// Stack of the spawning thread; it does nothing but fork and exec.
const SPAWN_STACK_BYTES: usize = 256 * 1024;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Becomes the supervisor if this process was started as one, and never returns then.
/// Must stand first in `main`: before threads, before a runtime.
pub fn run_if_supervisor() {
    let mut arguments = std::env::args_os().skip(1);
    let code = match arguments.next() {
        Some(first) if first == MARKER => supervise(arguments.collect()),
        Some(first) if first == SERVER_MARKER => become_server(arguments.collect()),
        _ => {
            // This program can be re-executed as a supervisor.
            let _ = PROGRAM.set(PathBuf::from(THIS_PROGRAM));
            return;
        }
    };
    std::process::exit(i32::from(code));
}

/// Names another program to run as supervisor, for programs whose `main` is not ours (tests).
pub fn set_supervisor_program(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// The program and arguments that run `argv` under a supervisor; `None` when there is no supervisor program.
#[must_use]
pub(crate) fn command(argv: &[String], sandbox: &Sandbox) -> Option<Command> {
    let program = PROGRAM.get()?;
    let mut command = Command::new(program);
    command
        .arg(MARKER)
        .arg(std::process::id().to_string())
        .arg(sandbox::to_argument(sandbox))
        .args(argv);
    Some(command)
}

type Spawned = std::io::Result<Child>;

/// Spawns from one thread that lives as long as the process: the kernel's parent-death signal is sent when
/// the *thread* that forked ends, and runtime threads may end before the process.
pub(crate) async fn spawn_from_lasting_thread(command: Command) -> Spawned {
    type Job = (Command, Handle, tokio::sync::oneshot::Sender<Spawned>);
    static QUEUE: OnceLock<mpsc::SyncSender<Job>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        let (sender, jobs) = mpsc::sync_channel::<Job>(SPAWN_QUEUE);
        let spawner = move || {
            for (command, runtime, answer) in jobs {
                let _entered = runtime.enter();
                let _ = answer.send(tokio::process::Command::from(command).spawn());
            }
        };
        // Without the thread every send fails and is reported as a spawn failure.
        let _ = std::thread::Builder::new()
            .name("paperbot-spawn".into())
            .stack_size(SPAWN_STACK_BYTES)
            .spawn(spawner);
        sender
    });
    let (answer, spawned) = tokio::sync::oneshot::channel();
    let full = || std::io::Error::other("too many processes are being started");
    queue
        .try_send((command, Handle::current(), answer))
        .map_err(|_| full())?;
    spawned.await.unwrap_or_else(|_| Err(full()))
}

fn supervise(arguments: Vec<OsString>) -> u8 {
    let mut arguments = arguments.into_iter();
    let parent = pid_in(arguments.next());
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
        Signal::SIGALRM,
    ] {
        signals.add(signal);
    }
    // Blocked before anything can be sent, so that none is lost; std clears the mask in the server.
    let blocked = signals.thread_block();
    let death = prctl::set_pdeathsig(Signal::SIGTERM);
    let reaper = prctl::set_child_subreaper(true);
    if blocked.is_err() || death.is_err() || reaper.is_err() {
        return EXIT_NOT_STARTED;
    }
    if parent.is_some_and(|pid| getppid() != Pid::from_raw(pid)) {
        // The bridge died between fork and here: there will be no signal.
        return EXIT_NOT_STARTED;
    }
    let Some(wanted) = arguments.next() else {
        return EXIT_NOT_STARTED;
    };
    let most = sandbox::from_argument(&wanted).and_then(|wanted| wanted.most_processes());
    let server = Command::new(THIS_PROGRAM)
        .arg(SERVER_MARKER)
        .arg(std::process::id().to_string())
        .arg(wanted)
        .args(arguments)
        .process_group(0)
        .spawn();
    let Ok(server) = server else {
        return not_started();
    };
    let Ok(pid) = i32::try_from(server.id()) else {
        return EXIT_NOT_STARTED;
    };
    if let_go_of_pipes().is_err() {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let code = watch(Pid::from_raw(pid), &signals, most);
    kill_everything();
    code
}

/// Becomes the server, in the process the supervisor started for it: only this process can ask the kernel
/// to be killed with its parent, and it stays asked for when the program is replaced.
fn become_server(arguments: Vec<OsString>) -> u8 {
    let mut arguments = arguments.into_iter();
    let parent = pid_in(arguments.next());
    let (Some(wanted), Some(program)) = (arguments.next(), arguments.next()) else {
        return EXIT_NOT_STARTED;
    };
    let death = prctl::set_pdeathsig(Signal::SIGKILL);
    if death.is_err() || parent.is_some_and(|pid| getppid() != Pid::from_raw(pid)) {
        return EXIT_NOT_STARTED;
    }
    // The bridge keeps off huge pages for itself; its servers decide on their own.
    let _ = prctl::set_thp_disable(false);
    // A sandbox nobody can read is none that was asked for: better no server than one without it.
    let Some(wanted) = sandbox::from_argument(&wanted) else {
        return not_started();
    };
    sandbox::tell(&sandbox::apply(&wanted, &program));
    // Returns only when there is no such program.
    let _ = Command::new(program).args(arguments).exec();
    not_started()
}

fn pid_in(argument: Option<OsString>) -> Option<i32> {
    argument?.to_str()?.parse().ok()
}

fn not_started() -> u8 {
    let _ = writeln!(std::io::stderr(), "the command could not be started");
    EXIT_NOT_STARTED
}

/// The pipes are the server's alone: held open here too, the bridge would never see one end of them close.
fn let_go_of_pipes() -> nix::Result<()> {
    let nothing = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|_| nix::Error::ENOENT)?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)
}

/// Waits until the server left, told to by us or by itself, or until its tree grew over `most` processes.
fn watch(server: Pid, signals: &SigSet, most: Option<u64>) -> u8 {
    let mut ending = false;
    if most.is_some() {
        alarm::set(COUNT_EVERY_S);
    }
    loop {
        if let Some(code) = reap(server) {
            return code;
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {}
            Ok(Signal::SIGALRM) if ending => {
                let _ = killpg(server, Signal::SIGKILL);
            }
            Ok(Signal::SIGALRM) => {
                if most.is_some_and(|most| tasks_below(std::process::id(), most) > most) {
                    // What forks faster than it dies stops forking first.
                    let _ = killpg(server, Signal::SIGSTOP);
                    let _ = killpg(server, Signal::SIGKILL);
                }
                alarm::set(COUNT_EVERY_S);
            }
            Ok(_) => {
                ending = true;
                let _ = killpg(server, Signal::SIGTERM);
                alarm::set(TERM_GRACE_S);
            }
            Err(_) => return EXIT_NOT_STARTED,
        }
    }
}

/// Reaps whatever ended; the server's exit code if it was among them.
fn reap(server: Pid) -> Option<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == server => {
                return Some(u8::try_from(code).unwrap_or(1));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == server => {
                return Some(128 + u8::try_from(signal as i32).unwrap_or_default());
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Kills children until none is left; orphans of the killed become children of this subreaper and are next.
fn kill_everything() {
    for _ in 0..MAX_KILL_ROUNDS {
        let children = children_of(std::process::id());
        for child in &children {
            let _ = kill(Pid::from_raw(*child), Signal::SIGKILL);
        }
        // ECHILD: nothing is left to wait for.
        if waitpid(None, None).is_err() {
            return;
        }
    }
}

/// An exit in words, seen through the supervisor or not.
#[must_use]
pub(crate) fn describe(status: std::process::ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) if code > 128 && code <= 128 + 64 => {
            format!("ended by {}", signal_name(code - 128))
        }
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("ended by {}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    }
}

/// An exit as a shell has it, seen through the supervisor or not.
#[must_use]
pub(crate) fn shell_status(status: std::process::ExitStatus) -> Option<i32> {
    status.code().or_else(|| Some(128 + status.signal()?))
}

fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(
        |_| format!("signal {number}"),
        |signal| signal.as_str().to_owned(),
    )
}
