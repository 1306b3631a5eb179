//! The command line as clap sees it: verbs, options and their help texts. Decides nothing.

mod agent;
mod manage;
#[cfg(test)]
mod pages;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::agent::{Agent, AgentFileOption, Config, Install, Pair, Uninstall};
pub(crate) use self::manage::{
    Audit, AuditAction, AuditQuery, AuditVerify, Calls, Connect, Credentials, Definition, Events,
    Host, Input, Key, Mcp, PinAct, Scope, Server, Session, User, Via, Workspace,
};
use crate::moment;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "paperbot-mcp",
    version,
    about = "Finds and calls the tools of every MCP server behind one bridge",
    long_about = "Finds and calls the tools of every MCP server behind one bridge.\n\n  paperbot-mcp find \"sum two numbers\" -n 3\n  paperbot-mcp help demo.add        (often the line of `find` is enough)\n  paperbot-mcp call demo.add a=1 b=2\n\nstdout holds the answer alone, stderr one line per error (JSON unless a terminal).\nExit codes: 0 ok, 1 internal, 2 usage or arguments, 3 credentials, 4 unreachable, 5 tool error,\n6 not found, 7 policy or confirmation, 8 timeout or unknown outcome, 9 busy (retry), 10 conflict,\n130 cancelled. The token comes from PAPERBOT_TOKEN, --token-file, the profile, or for a bridge on\nthis machine the key its first start left in the state directory.",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = false
)]
pub(crate) struct CommandLine {
    /// Options of every verb.
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// Print no notes on stderr.
    #[arg(short = 'q', id = "quiet_before", hide = true)]
    pub(crate) quiet_before: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag")]
pub(crate) struct Globals {
    /// The bridge's address.
    #[arg(
        long,
        global = true,
        env = "PAPERBOT_URL",
        hide_env_values = true,
        value_name = "URL",
        help = "The bridge's address [default: http://127.0.0.1:8787]"
    )]
    pub(crate) url: Option<String>,
    /// Read the token from this file (`PAPERBOT_TOKEN` goes first)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Use this profile of cli.yaml in the configuration directory
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Act in this workspace
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) workspace: Option<String>,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print one JSON document a line
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) jsonl: bool,
    /// Print no notes on stderr (`-q` before the verb does the same)
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// Say on stderr what is asked of the bridge
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Never wait for standard input
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Print at most this many bytes, 0 for all [default: 16384 unless a terminal]
    #[arg(long, global = true, value_name = "BYTES")]
    pub(crate) max_bytes: Option<usize>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Search tools, resources and prompts: one line each
    #[command(alias = "list_catalog", alias = "list", alias = "tools")]
    Find(Find),
    /// Explain tools: signature, description, schema
    #[command(alias = "get_tool_help")]
    Help(Help),
    /// Call a tool
    #[command(alias = "call_tool")]
    Call(Call),
    /// List resources
    #[command(alias = "list_resources")]
    Resources(Resources),
    /// Read a resource
    #[command(alias = "read_resource")]
    Read(Read),
    /// List prompts
    #[command(alias = "list_prompts")]
    Prompts(Prompts),
    /// Get a prompt's messages
    #[command(alias = "get_prompt")]
    Prompt(Prompt),
    /// Sessions: open, list, inspect, close, refresh (opening is never needed)
    #[command(subcommand)]
    Session(Session),
    /// Calls: list, get, wait, cancel, input
    #[command(subcommand)]
    Calls(Calls),
    /// Decide what waits for a person, at a terminal: without an id, list it
    Approve(Decide),
    /// Deny what waits for a person, at a terminal
    Deny(Decide),
    /// Events that were, or with --follow those to come
    #[command(alias = "list_events")]
    Events(Events),
    /// Everything recorded under one trace id
    #[command(alias = "get_trace")]
    Trace {
        /// The trace id
        trace_id: String,
    },
    /// The record of who did what: list, export (NDJSON), head, verify
    Audit(Audit),
    /// Servers: list, add, set, remove, versions, diff, rollback, test
    #[command(subcommand)]
    Server(Server),
    /// API keys: list, create, rotate, revoke
    #[command(subcommand)]
    Key(Key),
    /// Users of the bridge: list, create
    #[command(subcommand)]
    User(User),
    /// Workspaces of the bridge: list, create
    #[command(subcommand)]
    Workspace(Workspace),
    /// Your own credentials for servers, without their values: list, link, remove
    #[command(subcommand)]
    Credentials(Credentials),
    /// This machine's tools behind the bridge: run, install, status, list, pair
    #[command(subcommand)]
    Agent(Agent),
    /// Configurations of the bridge and of agents: validate, apply, show, import
    #[command(subcommand)]
    Config(Config),
    /// Make a host agent use the bridge (prints the diff unless --write)
    Connect(Connect),
    /// Speak MCP on standard input and output, for hosts that only do that
    Mcp(Mcp),
    /// Print a SKILL.md for host agents
    Skill,
    /// What is wrong and what to do
    Doctor,
    /// Print a shell's completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print this program's version
    Version,
}

/// `find`
#[derive(Debug, Args)]
pub(crate) struct Find {
    /// Words that say what is wanted; without any, everything by name
    pub(crate) words: Vec<String>,
    /// A further query; answers of all queries are merged into one ranking
    #[arg(short, long = "query", value_name = "QUERY")]
    pub(crate) query: Vec<String>,
    /// Only this server
    #[arg(short, long, value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// Only this kind (repeatable)
    #[arg(short, long, value_enum)]
    pub(crate) kind: Vec<Kind>,
    /// At most this many
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) limit: u16,
    /// Names alone
    #[arg(long)]
    pub(crate) names: bool,
    /// Only what changed since this catalogue hash
    #[arg(long, value_name = "HASH")]
    pub(crate) since: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Tool,
    Resource,
    Template,
    Prompt,
}

/// `help`
#[derive(Debug, Args)]
pub(crate) struct Help {
    /// Tools as server.tool, at most 20; without any, this program's own help
    #[arg(value_name = "REF")]
    pub(crate) refs: Vec<String>,
    /// The schemas as JSON, whole
    #[arg(long)]
    pub(crate) schema: bool,
    /// Say `unchanged` when the tool's hash is this one
    #[arg(long, value_name = "HASH")]
    pub(crate) if_hash: Option<String>,
}

/// `call`
#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The tool as server.tool
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// k=v by the tool's schema, k:=JSON, k=@FILE, one JSON object, or `-` for JSON on standard input
    #[arg(value_name = "ARGUMENTS", allow_hyphen_values = false)]
    pub(crate) arguments: Vec<String>,
    /// Print the call's id and leave it running
    #[arg(long = "async", conflicts_with = "stream")]
    pub(crate) asynchronous: bool,
    /// Show progress on stderr; with --jsonl one event a line on stdout
    #[arg(long)]
    pub(crate) stream: bool,
    /// Check arguments and policy, send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The token of an approval
    #[arg(long, value_name = "TOKEN")]
    pub(crate) confirm: Option<String>,
    /// Run at most once under this key; a repeat gives the first answer
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// The run or conversation, for servers with a session for each
    #[arg(long, value_name = "LANE")]
    pub(crate) lane: Option<String>,
    /// Give up after this long: 500ms, 60s, 5m
    #[arg(long, value_name = "TIME", value_parser = moment::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Refuse when the tool's definition is not this one
    #[arg(long, value_name = "HASH")]
    pub(crate) schema_hash: Option<String>,
    /// Exactly this agent of yours; REF may name its server as the agent does, and k=v is taken by its looks, not by a schema
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
}

/// `approve` and `deny`
#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// The approval; without one all that wait are listed
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
    /// A word for whoever asked
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

/// `resources`
#[derive(Debug, Args)]
pub(crate) struct Resources {
    /// Only this server
    #[arg(short, long, value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// Resource templates instead
    #[arg(long)]
    pub(crate) templates: bool,
}

/// `read`
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// The server
    pub(crate) server: String,
    /// The resource's URI
    pub(crate) uri: String,
    /// Write the content to this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `prompts`
#[derive(Debug, Args)]
pub(crate) struct Prompts {
    /// Only this server
    #[arg(short, long, value_name = "SERVER")]
    pub(crate) server: Option<String>,
}

/// `prompt`
#[derive(Debug, Args)]
pub(crate) struct Prompt {
    /// The prompt as server.prompt
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// k=v or k=@FILE
    #[arg(value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<String>,
}
