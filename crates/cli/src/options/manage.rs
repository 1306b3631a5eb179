//! Options of the verbs that manage: sessions, calls, records, servers, configuration, hosts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::moment;

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
    /// Answer what a call waits for (`calls get` shows it)
    Input(Input),
}

/// `calls input`
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// The call's id
    pub(crate) id: String,
    /// FIELD=VALUE for the one form that waits, or KEY:=JSON for a whole answer
    #[arg(value_name = "ANSWERS")]
    pub(crate) answers: Vec<String>,
    /// Decline this question
    #[arg(long, value_name = "KEY")]
    pub(crate) decline: Vec<String>,
    /// Dismiss this question without an answer
    #[arg(long, value_name = "KEY")]
    pub(crate) cancel: Vec<String>,
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
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) action: Option<AuditAction>,
    #[command(flatten)]
    pub(crate) query: AuditQuery,
}

/// Which entries of the audit record.
#[derive(Debug, Args)]
pub(crate) struct AuditQuery {
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

/// What to do with the audit record.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditAction {
    /// The newest entries, one line each
    List(AuditQuery),
    /// All entries as NDJSON, for `audit verify`
    Export(AuditQuery),
    /// Verify the bridge's own record; prints its signed heads and key as JSON, to be kept elsewhere
    Head,
    /// Verify an export; needs no bridge
    Verify(AuditVerify),
}

/// `audit verify`
#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// The export; `-` for standard input
    pub(crate) file: PathBuf,
    /// Signed heads, as `audit head` prints them: without them nobody can tell what is missing at the end
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Option<PathBuf>,
    /// The bridge's public key in base64, or a file that holds it [default: the one in the file of heads]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// The export was narrowed by user, tool, outcome or time: gaps are no fault
    #[arg(long)]
    pub(crate) partial: bool,
}

/// `key`
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// List keys, without their secrets
    List,
    /// Make a key and print it, this once
    Create {
        /// Whose
        user: String,
        /// Only in this workspace (repeatable)
        #[arg(long, value_name = "WORKSPACE")]
        only: Vec<String>,
        /// Narrowed to these tools, as server.tool with * (repeatable), or `read_only`, or `manage`
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        /// Good for this long
        #[arg(long, value_name = "TIME", value_parser = moment::duration)]
        expires: Option<Duration>,
        /// What people call it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Replace a key: print the new one, leave the old one good for a while [default: 1h]
    Rotate {
        /// The key's id
        id: String,
        /// How long the old one stays good, 7d at most
        #[arg(long, value_name = "TIME", value_parser = moment::duration)]
        overlap: Option<Duration>,
        /// The old one is gone at once
        #[arg(long, conflicts_with = "overlap")]
        now: bool,
    },
    /// Revoke a key at once
    Revoke {
        /// The key's id
        id: String,
    },
}

/// `user`
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// List users with their workspaces and roles
    List,
    /// Make a user (an operator of `default` unless told otherwise), or replace the roles of one that is there
    Create {
        /// The user
        name: String,
        /// In this workspace (repeatable)
        #[arg(
            short = 'W',
            long = "in",
            value_name = "WORKSPACE",
            default_value = "default"
        )]
        workspaces: Vec<String>,
        /// As what (repeatable): admin, approver, operator, viewer, or a role of the bridge's file
        #[arg(long = "role", value_name = "ROLE", default_value = "operator")]
        roles: Vec<String>,
    },
}

/// `workspace`
#[derive(Debug, Subcommand)]
pub(crate) enum Workspace {
    /// List workspaces
    List,
    /// Make a workspace
    Create {
        /// Its id
        id: String,
    },
}

/// `credentials`
#[derive(Debug, Subcommand)]
pub(crate) enum Credentials {
    /// List what there is for which servers: names of secrets, and grants
    List,
    /// Print a link by which you grant the bridge access to a server in a browser
    Link {
        /// The server
        server: String,
        /// For everybody in the workspace (admins)
        #[arg(long)]
        shared: bool,
    },
    /// Remove secrets and grants for a server
    Remove {
        /// The server
        server: String,
        /// The workspace's instead of your own (admins)
        #[arg(long)]
        shared: bool,
    },
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
    /// Which definitions of its tools were approved, and what differs from them
    Pins {
        /// The server
        name: String,
        /// Approve a tool's present definition instead
        #[command(subcommand)]
        act: Option<PinAct>,
    },
}

/// `server pins NAME`
#[derive(Debug, Subcommand)]
pub(crate) enum PinAct {
    /// Approve a tool's present definition
    Approve {
        /// The tool, as server.tool
        #[arg(value_name = "REF")]
        reference: String,
        /// The hash of the definition that was read
        hash: String,
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

/// `connect`
#[derive(Debug, Args)]
#[command(
    long_about = "Make a host agent use the bridge.\n\nAdds the bridge as one MCP server to the file the host reads; nothing else in it is touched. With\n`--via http` (the default) the host asks the bridge itself and takes the key from its environment\n(PAPERBOT_TOKEN; VS Code asks for it); with `--via stdio` it starts `paperbot-mcp mcp`, which finds the\nkey by itself; with `--via skill` it gets a SKILL.md and runs `paperbot-mcp find` and `call` in its\nshell. A key is never written. Without --write nothing changes: the difference is printed."
)]
pub(crate) struct Connect {
    /// Which host
    #[arg(value_enum)]
    pub(crate) host: Host,
    /// For this user everywhere, or for the project in the current directory
    #[arg(long, value_enum, default_value_t = Scope::User)]
    pub(crate) scope: Scope,
    /// How the host reaches the bridge
    #[arg(long, value_enum, default_value_t = Via::Http)]
    pub(crate) via: Via,
    /// Only this server, passed through whole, instead of all of them behind `find` and `call`
    #[arg(short, long, value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// What the host calls the entry [default: paperbot, or paperbot-SERVER]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Write it (the old file is kept as .bak)
    #[arg(long)]
    pub(crate) write: bool,
}

/// How a host reaches the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    Http,
    Stdio,
    Skill,
}

/// `mcp`
#[derive(Debug, Args)]
pub(crate) struct Mcp {
    /// Only this server, passed through whole, instead of all of them behind `find` and `call`
    #[arg(short, long, value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// The run or conversation, for servers that keep a session for each
    #[arg(long, value_name = "LANE")]
    pub(crate) lane: Option<String>,
    /// List these tools directly, beside `find_tools` and `call_tool`; may be repeated
    #[arg(
        long,
        value_name = "REF,…",
        value_delimiter = ',',
        conflicts_with = "server"
    )]
    pub(crate) expose: Vec<String>,
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
