//! The thin client of the bridge: reads the command line, asks the bridge, shows the answer.
//! Knows nothing of MCP sessions, and of the bridge only what is on the wire.

mod agent;
mod arguments;
mod ask;
mod bridge;
mod content;
mod failure;
mod files;
mod moment;
mod options;
mod output;
mod places;
mod position;
mod pump;
mod schemas;
mod screen;
mod settings;
mod sse;
mod stdin;
mod trace;
mod usage;
mod verbs;
mod yaml;

use std::process::ExitCode;

use api::wire::Decision;
use clap::{CommandFactory as _, Parser as _};

use crate::bridge::Bridge;
use crate::failure::Failure;
use crate::options::{Audit, AuditAction, CommandLine, Verb};
use crate::output::{Mode, Output};
use crate::places::Places;
use crate::settings::Settings;
use crate::verbs::Desk;

fn main() -> ExitCode {
    // First: an agent's servers run under this program as their supervisor.
    transports::supervise::run_if_supervisor();
    let arguments = usage::spelled_out(std::env::args_os());
    let outcome = match CommandLine::try_parse_from(&arguments) {
        Ok(line) => run(&line),
        Err(error) => usage::refuse(&error, &arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit)
        }
    }
}

/// Verbs that need no bridge run without a runtime: `version` in milliseconds.
fn run(line: &CommandLine) -> Result<(), Failure> {
    let places = Places::from_env();
    let output = Output::new(&line.globals, line.quiet_before, &places);
    match &line.verb {
        Verb::Version => version(&output),
        Verb::Skill => output.raw(verbs::skill::SKILL.as_bytes()),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(
                *shell,
                &mut CommandLine::command(),
                "paperbot-mcp",
                &mut script,
            );
            output.raw(&script)
        }
        Verb::Help(help) if help.refs.is_empty() => {
            let text = CommandLine::command().render_long_help().to_string();
            output.raw(text.as_bytes())
        }
        Verb::Connect(connect) => verbs::connect::connect(connect, &line.globals, &output, &places),
        Verb::Config(config) => verbs::config::run(config, &output, &places),
        Verb::Audit(Audit {
            action: Some(AuditAction::Verify(verify)),
            ..
        }) => verbs::audit::run_here(verify, &output),
        Verb::Agent(agent) if !verbs::agent::asks_bridge(agent) => {
            verbs::agent::run_here(agent, &output, &places)
        }
        remote => {
            let settings = Settings::resolve(&line.globals, &places)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::local_io("runtime", &error))?;
            let desk = Desk {
                bridge: Bridge::new(settings)?,
                output,
                places,
                no_input: line.globals.no_input,
            };
            runtime.block_on(ask(&desk, remote))
        }
    }
}

async fn ask(desk: &Desk, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Find(find) => verbs::discover::find(desk, find).await,
        Verb::Help(help) => verbs::discover::help(desk, help).await,
        Verb::Call(call) => verbs::call::call(desk, call).await,
        Verb::Resources(resources) => verbs::offers::resources(desk, resources).await,
        Verb::Read(read) => verbs::offers::read(desk, read).await,
        Verb::Prompts(prompts) => verbs::offers::prompts(desk, prompts).await,
        Verb::Prompt(prompt) => verbs::offers::prompt(desk, prompt).await,
        Verb::Session(verb) => verbs::sessions::run(desk, verb).await,
        Verb::Calls(verb) => verbs::calls::run(desk, verb).await,
        Verb::Approve(decide) => verbs::approvals::run(desk, decide, Decision::Approve).await,
        Verb::Deny(decide) => verbs::approvals::run(desk, decide, Decision::Deny).await,
        Verb::Events(events) => verbs::record::events(desk, events).await,
        Verb::Trace { trace_id } => verbs::record::trace(desk, trace_id).await,
        Verb::Audit(audit) => verbs::audit::audit(desk, audit).await,
        Verb::Server(verb) => verbs::servers::run(desk, verb).await,
        Verb::Key(verb) => verbs::keys::run(desk, verb).await,
        Verb::User(verb) => verbs::users::user(desk, verb).await,
        Verb::Workspace(verb) => verbs::users::workspace(desk, verb).await,
        Verb::Credentials(verb) => verbs::credentials::run(desk, verb).await,
        Verb::Doctor => verbs::doctor::doctor(desk).await,
        Verb::Mcp(mcp) => verbs::mcp::mcp(desk, mcp).await,
        Verb::Agent(agent) => verbs::agent::ask(desk, agent).await,
        Verb::Config(_)
        | Verb::Connect(_)
        | Verb::Skill
        | Verb::Completions { .. }
        | Verb::Version => Ok(()),
    }
}

fn version(output: &Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match output.mode {
        Mode::Text => output.raw_line(&format!("paperbot-mcp {version}")),
        _ => output.raw_line(&format!("{{\"version\":\"{version}\"}}")),
    }
}
