//! The command line as clap sees it: verbs, options and their help texts. Decides nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::moment;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "paperbot-mcp",
    version,
    about = "Finds and calls the tools of every MCP server behind one bridge",
    long_about = "Finds and calls the tools of every MCP server behind one bridge.\n\n  paperbot-mcp find \"sum two numbers\" -n 3\n  paperbot-mcp help everything.get-sum        (often the line of `find` is enough)\n  paperbot-mcp call everything.get-sum a=1 b=2\n\nstdout holds the answer alone, stderr one line per error (JSON unless a terminal).\nExit codes: 0 ok, 1 internal, 2 usage or arguments, 3 credentials, 4 unreachable, 5 tool error,\n6 not found, 7 policy or confirmation, 8 timeout or unknown outcome, 9 busy (retry), 10 conflict,\n130 cancelled. The token comes from PAPERBOT_TOKEN, --token-file, the profile, or for a bridge on\nthis machine the key its first start left in the state directory.",
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
    /// The bridge's address [default: <http://127.0.0.1:8787>]
    #[arg(long, global = true, env = "PAPERBOT_URL", value_name = "URL")]
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
    /// Events that were, or with --follow those to come
    #[command(alias = "list_events")]
    Events(Events),
    /// Everything recorded under one trace id
    #[command(alias = "get_trace")]
    Trace {
        /// The trace id
        trace_id: String,
    },
    /// The record of who did what: list or export (NDJSON)
    Audit(Audit),
    /// Servers: list, add, set, remove, versions, diff, rollback, test
    #[command(subcommand)]
    Server(Server),
    /// Check a bridge configuration, or make one from another program's
    #[command(subcommand)]
    Config(Config),
    /// Teach a host agent to use the bridge through this command (prints the diff unless --write)
    Connect(Connect),
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

/// `session`
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// Open a session now
    Open {
        /// The server
        server: String,
        /// The run or conversation
        #[arg(long)]
        lane: Option<String>,
        /// Keep it this long even when idle
        #[arg(long, value_name = "TIME", value_parser = moment::duration)]
        ttl: Option<Duration>,
    },
    /// List sessions
    List,
    /// Everything about one session
    Inspect {
        /// The session's id
        id: String,
    },
    /// Close a session
    Close {
        /// The session's id
        id: String,
    },
    /// Connect anew and list the catalogue again
    Refresh {
        /// The session's id
        id: String,
    },
}

/// `calls`
#[derive(Debug, Subcommand)]
pub(crate) enum Calls {
    /// List calls, newest first
    List {
        /// Only in this state
        #[arg(long)]
        state: Option<String>,
        /// Only of this tool
        #[arg(long = "ref", value_name = "REF")]
        reference: Option<String>,
        /// Only since this time (RFC 3339) or this long ago (1h)
        #[arg(long)]
        since: Option<String>,
    },
    /// One call and its result, if it has one yet
    Get {
        /// The call's id
        id: String,
    },
    /// Wait for a call's end and print its result
    Wait {
        /// The call's id
        id: String,
        /// Wait at most this long
        #[arg(long, value_name = "TIME", value_parser = moment::duration)]
        timeout: Option<Duration>,
    },
    /// Cancel a call
    Cancel {
        /// The call's id
        id: String,
    },
    /// Answer a call that asks for input
    Input {
        /// The call's id
        id: String,
        /// One JSON object, or `-` for JSON on standard input
        answer: Option<String>,
    },
}

/// `events`
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on with those to come, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin after this event; 0 for all that are kept
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// Only these types, separated by commas
    #[arg(long = "type", value_name = "TYPES")]
    pub(crate) types: Option<String>,
    /// At most this many (without --follow)
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) limit: u16,
}

/// `audit`
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// list: one line each; export: all as NDJSON
    #[arg(value_enum, default_value_t = AuditAction::List)]
    pub(crate) action: AuditAction,
    /// Only since this time (RFC 3339) or this long ago (1h)
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Only until this time or this long ago
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// Only of this user
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only of this tool
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) reference: Option<String>,
    /// Only with this outcome
    #[arg(long)]
    pub(crate) outcome: Option<String>,
}

/// What to do with the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditAction {
    List,
    Export,
}

/// `server`
#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// List servers and their states
    List,
    /// Add a server: --at URL, --file FILE, or a command after `--`
    Add(Definition),
    /// Replace a server's definition
    Set(Definition),
    /// Remove a server
    Remove {
        /// The server
        name: String,
        /// Only when this version is current [default: whatever is]
        #[arg(long, value_name = "VERSION")]
        if_match: Option<String>,
    },
    /// All versions of a server
    Versions {
        /// The server
        name: String,
    },
    /// What differs between two versions
    Diff {
        /// The server
        name: String,
        /// The older version
        from: u64,
        /// The newer version
        to: u64,
    },
    /// Make an old version current again
    Rollback {
        /// The server
        name: String,
        /// The old version
        version: u64,
    },
    /// Reach a server and list what it offers; calls nothing
    Test {
        /// The server
        name: String,
    },
}

/// How a server is reached.
#[derive(Debug, Args)]
pub(crate) struct Definition {
    /// The server's name: a-z, 0-9 and `-`
    pub(crate) name: String,
    /// The URL of a streamable HTTP server
    #[arg(long = "at", value_name = "URL", conflicts_with_all = ["file", "command"])]
    pub(crate) at: Option<String>,
    /// The URL speaks the old HTTP+SSE transport
    #[arg(long, requires = "at")]
    pub(crate) sse: bool,
    /// The definition as YAML or JSON, as under `servers:` in the bridge's file; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub(crate) file: Option<PathBuf>,
    /// An environment variable: NAME=VALUE, or NAME=env:VAR / NAME=file:/PATH for a secret
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// An HTTP header: NAME=VALUE, or NAME=env:VAR / NAME=file:/PATH for a secret (`NAME=Bearer env:VAR`)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) header: Vec<String>,
    /// Who shares a session: shared, user, lane or call
    #[arg(long)]
    pub(crate) isolation: Option<String>,
    /// Only when this version is current [default: whatever is]
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_match: Option<String>,
    /// The command that starts a stdio server
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// `config`
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check a bridge configuration file (by the `paperbot-mcpd` beside this program or in PATH)
    Validate {
        /// The file
        file: PathBuf,
    },
    /// Make `servers:` from another program's configuration
    Import {
        /// claude-code, codex, opencode, cursor, vscode, or a file
        #[arg(value_name = "HOST|FILE")]
        source: String,
        /// Add them to this file instead of printing them
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
}

/// `connect`
#[derive(Debug, Args)]
#[command(
    long_about = "Teach a host agent to use the bridge through this command.\n\nWhat is installed is a skill (SKILL.md) where the host looks for skills: it tells the agent to run\n`paperbot-mcp find`, `help` and `call`. An MCP entry in the host's configuration comes with the\nbridge's own MCP face, which this version does not have. Without --write nothing changes: the\ndifference is printed."
)]
pub(crate) struct Connect {
    /// Which host
    #[arg(value_enum)]
    pub(crate) host: Host,
    /// For this user everywhere, or for the project in the current directory
    #[arg(long, value_enum, default_value_t = Scope::User)]
    pub(crate) scope: Scope,
    /// Write it (the old file is kept as .bak)
    #[arg(long)]
    pub(crate) write: bool,
}

/// A host agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    ClaudeCode,
    Codex,
    Opencode,
    Cursor,
    Vscode,
    Gemini,
}

/// Whose configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    User,
    Project,
}
