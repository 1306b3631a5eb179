//! Options of `agent` and of `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::agent::kind::Kind;

/// `agent`
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Run in the foreground: dial the bridge and serve the tools of the agent's file until Ctrl-C
    Run(AgentFileOption),
    /// Print a systemd user unit that runs the agent (--write puts it in place)
    Install(Install),
    /// Take the unit away again (prints what would go, unless --write)
    Uninstall(Uninstall),
    /// How the agents of this machine are
    Status(AgentFileOption),
    /// Your agents, as the bridge knows them
    List,
    /// Get a token with a short code, confirmed by somebody who is signed in
    Pair(Pair),
    /// Confirm the code another machine's `agent pair` shows
    Confirm {
        /// The code
        code: String,
    },
}

/// Which agent's file.
#[derive(Debug, Args)]
pub(crate) struct AgentFileOption {
    /// The agent's file [default: .paperbot/config.yaml up to the repository's root, then the user's]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `agent install`
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Which file it is to run with
    #[command(flatten)]
    pub(crate) file: AgentFileOption,
    /// Write the unit instead of printing it
    #[arg(long)]
    pub(crate) write: bool,
}

/// `agent uninstall`
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// Which file it runs with
    #[command(flatten)]
    pub(crate) file: AgentFileOption,
    /// Remove the unit instead of naming it
    #[arg(long)]
    pub(crate) write: bool,
}

/// `agent pair`
#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// The agent's id [default: the bridge makes one]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// What people are shown
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Where the token goes [default: agents/ID.token in the configuration directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
}

/// `config`
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check a configuration: the bridge's (by the `paperbot-mcpd` beside this program or in PATH) or an agent's
    Validate {
        /// The file [default: the agent's, as `agent run` finds it]
        file: Option<PathBuf>,
        /// Whose it is [default: its content tells]
        #[arg(long, value_enum)]
        kind: Option<Kind>,
    },
    /// Check a configuration, then put it in place; the old one is kept as .bak
    Apply {
        /// The new file
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Where it goes [default for an agent's: config.yaml in the configuration directory]
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Whose it is [default: its content tells]
        #[arg(long, value_enum)]
        kind: Option<Kind>,
    },
    /// Print a configuration without its secrets
    Show {
        /// The file [default: the agent's, as `agent run` finds it]
        file: Option<PathBuf>,
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
