//! `read_resource`, `get_prompt`, `complete`: read-only exchanges with one server, each in the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use sessions::Lane;

use super::Broker;
use crate::asker::Asker;
use crate::error::BrokerError;

/// Which resource.
#[derive(Debug, Clone, Default)]
pub struct ReadResource {
    /// The server.
    pub server: String,
    /// The URI; need not be listed (templates).
    pub uri: String,
    /// The run or conversation.
    pub lane: Lane,
    /// Deadline, from now.
    pub timeout: Option<Duration>,
}

/// Which prompt.
#[derive(Debug, Clone, Default)]
pub struct GetPrompt {
    /// `server.prompt`.
    pub reference: String,
    /// Its arguments; MCP knows strings only.
    pub arguments: BTreeMap<String, String>,
    /// The run or conversation.
    pub lane: Lane,
    /// Deadline, from now.
    pub timeout: Option<Duration>,
}

/// What an argument belongs to.
#[derive(Debug, Clone)]
pub enum CompleteTarget {
    /// `server.prompt`.
    Prompt {
        /// The ref.
        reference: String,
    },
    /// A resource template.
    Template {
        /// The server.
        server: String,
        /// The URI template.
        uri_template: String,
    },
}

/// Which argument is to be completed.
#[derive(Debug, Clone)]
pub struct Complete {
    /// What it belongs to.
    pub target: CompleteTarget,
    /// The argument's name.
    pub argument: String,
    /// What was typed so far.
    pub value: String,
    /// Arguments already chosen.
    pub context: BTreeMap<String, String>,
    /// The run or conversation.
    pub lane: Lane,
    /// Deadline, from now.
    pub timeout: Option<Duration>,
}

/// What a server answered, untouched.
#[derive(Debug)]
pub struct UpstreamAnswer {
    /// `call_…`, its row in the ledger.
    pub call_id: String,
    /// The raw MCP result (`contents`, `messages`, `completion`, …).
    pub result: Box<RawValue>,
    /// From accepted to answered.
    pub duration: Duration,
}

impl Broker {
    /// Reads a resource.
    ///
    /// # Errors
    /// `server_not_found`, `resource_not_found`, and the codes of upstream faults.
    pub async fn read_resource(
        &self,
        asker: &Asker,
        request: ReadResource,
    ) -> Result<UpstreamAnswer, BrokerError> {
        let _ = (asker, request);
        todo!("filled next")
    }

    /// Gets a prompt's messages.
    ///
    /// # Errors
    /// `prompt_not_found`, `invalid_arguments`, and the codes of upstream faults.
    pub async fn get_prompt(
        &self,
        asker: &Asker,
        request: GetPrompt,
    ) -> Result<UpstreamAnswer, BrokerError> {
        let _ = (asker, request);
        todo!("filled next")
    }

    /// Completes an argument; an upstream without completion gives an empty list.
    ///
    /// # Errors
    /// `server_not_found`, `prompt_not_found`, and the codes of upstream faults.
    pub async fn complete(
        &self,
        asker: &Asker,
        request: Complete,
    ) -> Result<UpstreamAnswer, BrokerError> {
        let _ = (asker, request);
        todo!("filled next")
    }
}
