//! The bodies of the REST contract, for the daemon and for clients: plain serde, nothing else.
//!
//! Never holds a rule, a default of the daemon or a connection. Payloads of servers stay raw JSON text.

pub mod agent;
pub mod approval;
pub mod call;
pub mod catalog;
pub mod codes;
pub mod credential;
pub mod event;
pub mod offer;
pub mod principal;
pub mod problem;
pub mod record;
pub mod server;
pub mod session;
pub mod system;

use serde::{Deserialize, Serialize};

pub use agent::{
    Agent, AgentServer, AgentToken, AgentTokenRequest, AgentTools, DefaultAgent, PairConfirm,
    PairPoll, PairRequest, PairStanding, Paired, Pairing,
};
pub use approval::{Approval, ApprovalDecided, DecideApproval, Decision};
pub use call::{
    Call, CallAccepted, CallDone, CallRequest, CallResult, DryRun, InputRequest, InputResponses,
};
pub use catalog::{Catalog, CatalogItem, Help, HelpItem, Hints, ServerState};
#[cfg(feature = "daemon")]
pub use credential::PutCredentials;
pub use credential::{Authorize, Credential, Grant, GrantLink};
pub use event::Event;
pub use offer::{
    Argument, CompleteRequest, Completion, Contents, Messages, Prompt, PromptRequest, Resource,
    ResourceTemplate,
};
pub use principal::{
    CreateKey, CreateUser, CreateWorkspace, Key, Login, LoginRequest, Me, Membership, NewKey,
    RotateKey, User, Workspace,
};
pub use problem::{Complaint, Problem, Upstream};
pub use record::{AuditEntry, AuditHead, AuditKey, AuditReport, Trace};
pub use server::{
    ApprovePin, Change, Circuit, CreateServer, Pin, PutServer, Reloaded, Rollback, Server,
    TestReport, TestRequest,
};
pub use session::{OpenSession, Session};
pub use system::{Health, Version};

/// A part of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The members.
    pub items: Vec<T>,
    /// Opaque: where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A whole list that is never paged.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Items<T> {
    /// The members.
    pub items: Vec<T>,
}

/// Leaves `false` out of bodies.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes members by reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
