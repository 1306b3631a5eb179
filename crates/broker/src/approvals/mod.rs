//! Gates: what a person must approve before a call goes on. Asks, decides, issues single-use tokens and uses them up.
//!
//! Without a signing key nothing is issued and nothing passes. Never runs a call, and never decides whether one needs
//! an approval: that is `policy`.

mod id;
pub(crate) mod preview;
mod token;
mod told;
mod visible;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catalog::Hash;
use chrono::{TimeDelta, Utc};
use serde_json::json;
use tokio::sync::{OnceCell, oneshot};

pub use self::id::ApprovalId;
use self::preview::Preview;
pub(crate) use self::token::Binding;
use self::token::{Signer, Token};
pub use self::told::ApprovalState;
use self::told::{denial, invalid};
pub(crate) use self::told::{required, shown, state};
pub(crate) use self::visible::visible;
use crate::asker::Asker;
use crate::call::CallId;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::{EventHub, EventKind, NewEvent};
use crate::instant::rfc3339;
use crate::store::Store;
use crate::store::approvals::{ApprovalRow, Decided, OpenLimits};

/// Approvals of one user that wait at once: more than a person would look through.
const MAX_OPEN_PER_USER: i64 = 64;
/// Approvals that wait in all.
const MAX_OPEN: i64 = 4096;
/// When somebody whose approvals fill the list may ask again.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// The secret that signs tokens, by its name in the store.
const SECRET: &str = "confirm-token";

/// What was decided of a held call.
#[derive(Debug)]
pub(crate) enum Word {
    /// It goes on.
    Approved,
    /// It ends; why, in words.
    Denied(String),
}

/// What is to be approved.
pub(crate) struct Wanted<'a> {
    pub(crate) id: ApprovalId,
    pub(crate) binding: Binding<'a>,
    pub(crate) rule: String,
    pub(crate) self_confirm: bool,
    /// The call that is held for it.
    pub(crate) call: Option<CallId>,
}

/// Asks, decides and remembers.
#[derive(Debug)]
pub(crate) struct Approvals {
    store: Store,
    events: EventHub,
    ttl: TimeDelta,
    signer: OnceCell<Signer>,
    /// Held calls, each until it is decided; bounded as the approvals are.
    waiting: Mutex<HashMap<ApprovalId, oneshot::Sender<Word>>>,
}

impl Approvals {
    pub(crate) fn new(store: Store, events: EventHub, ttl: Duration) -> Self {
        Self {
            store,
            events,
            ttl: TimeDelta::from_std(ttl).unwrap_or(TimeDelta::zero()),
            signer: OnceCell::new(),
            waiting: Mutex::default(),
        }
    }

    /// An approval for a request: the one that is open for it already, or a new one.
    ///
    /// # Errors
    /// `quota_exceeded`; without a signing key `store_unavailable` or `internal`.
    pub(crate) async fn open(
        &self,
        asker: &Asker,
        wanted: &Wanted<'_>,
        preview: impl Future<Output = Result<Preview, BrokerError>>,
    ) -> Result<ApprovalRow, BrokerError> {
        // Before anything is asked of a person: what is approved must also be able to pass.
        self.signer().await?;
        let now = Utc::now();
        let binding = &wanted.binding;
        let mut row = ApprovalRow {
            id: wanted.id,
            workspace: binding.workspace.clone(),
            user: binding.user.clone(),
            reference: binding.reference.to_owned(),
            agent_id: binding.agent_id.to_owned(),
            arguments_digest: binding.arguments_digest,
            schema_hash: binding.schema_hash,
            trace_id: asker.trace.id(),
            rule: wanted.rule.clone(),
            self_confirm: wanted.self_confirm,
            preview: String::new(),
            call_id: wanted.call,
            state: ApprovalState::Pending,
            created_at: now,
            expires_at: now + self.ttl,
            decided_at: None,
            decided_by: None,
            note: None,
        };
        if wanted.call.is_none()
            && let Some(open) = self.store.open_approval(&row).await?
            // Asked under other rules, it would say what does not hold any more.
            && open.self_confirm == row.self_confirm
        {
            return Ok(open);
        }
        let preview = preview.await?;
        row.preview = serde_json::to_string(&preview)
            .map_err(|_| Fault::new(ErrorCode::Internal, "a preview cannot be written"))?;
        let limits = OpenLimits {
            per_user: MAX_OPEN_PER_USER,
            in_all: MAX_OPEN,
        };
        if !self.store.add_approval(&row, limits).await? {
            let detail = "too many approvals wait to be decided";
            let mut fault = Fault::new(ErrorCode::QuotaExceeded, detail);
            fault.retry_after = Some(RETRY_AFTER);
            return Err(fault);
        }
        self.tell(EventKind::ApprovalRequested, &row, preview.summary());
        Ok(row)
    }

    /// Uses a token up for a request; the approval it stands for.
    ///
    /// # Errors
    /// `confirmation_invalid`, the same for unknown, used, expired and foreign ones.
    pub(crate) async fn spend(
        &self,
        binding: &Binding<'_>,
        text: &str,
    ) -> Result<ApprovalId, BrokerError> {
        let token = Token::read(text).ok_or_else(invalid)?;
        let signer = self.signer().await?;
        let row = self.store.approval(binding.workspace, token.id).await?;
        let row = row.ok_or_else(invalid)?;
        if !signer.holds(&token, binding, row.expires_at.timestamp_millis()) {
            return Err(invalid());
        }
        // Most who come too late are told without a write.
        if !matches!(
            state(&row),
            ApprovalState::Pending | ApprovalState::Approved
        ) {
            return Err(invalid());
        }
        if self
            .store
            .spend_approval(binding.workspace, token.id)
            .await?
        {
            Ok(token.id)
        } else {
            Err(invalid())
        }
    }

    /// Decides an approval; its row as it is then. `None` when it does not wait for a decision.
    pub(crate) async fn decide(
        &self,
        row: ApprovalRow,
        (asker, approve, note): (&Asker, bool, Option<String>),
    ) -> Result<Option<ApprovalRow>, BrokerError> {
        let now = Utc::now();
        let decided = Decided {
            state: match (approve, row.call_id) {
                (false, _) => ApprovalState::Denied,
                (true, None) => ApprovalState::Approved,
                // There is no token: the call goes on at once.
                (true, Some(_)) => ApprovalState::Used,
            },
            by: asker.principal.user.clone(),
            note: note.map(|note| visible(&note)),
            at: now,
            expires_at: if approve {
                now + self.ttl
            } else {
                row.expires_at
            },
        };
        // A held call that is not here any more cannot go on: asked before anything is written.
        let gone = row.call_id.is_some() && !self.waiting().contains_key(&row.id);
        if gone
            || !self
                .store
                .decide_approval(&row.workspace, row.id, &decided)
                .await?
        {
            return Ok(None);
        }
        let row = ApprovalRow {
            state: decided.state,
            decided_at: Some(decided.at),
            decided_by: Some(decided.by),
            note: decided.note,
            expires_at: decided.expires_at,
            ..row
        };
        if row.call_id.is_some() {
            let word = if approve {
                Word::Approved
            } else {
                Word::Denied(denial(&row))
            };
            let waiting = self.waiting().remove(&row.id);
            if let Some(waiting) = waiting {
                // It may have ended this moment; then its end stands.
                let _ = waiting.send(word);
            }
        }
        let word = if approve { "approved" } else { "denied" };
        self.tell(EventKind::ApprovalDecided, &row, word);
        Ok(Some(row))
    }

    /// The token of an approval whose token is good now.
    ///
    /// # Errors
    /// Without a signing key `store_unavailable` or `internal`.
    pub(crate) async fn token(&self, row: &ApprovalRow) -> Result<Option<String>, BrokerError> {
        let good = match state(row) {
            ApprovalState::Approved => true,
            ApprovalState::Pending => row.self_confirm,
            _ => false,
        };
        if !good || row.call_id.is_some() {
            return Ok(None);
        }
        let signer = self.signer().await?;
        let expires_ms = row.expires_at.timestamp_millis();
        Ok(Some(signer.mint(row.id, &binding(row), expires_ms)))
    }

    /// Waits for the word on a held call.
    pub(crate) fn wait(&self, id: ApprovalId) -> oneshot::Receiver<Word> {
        let (word, said) = oneshot::channel();
        self.waiting().insert(id, word);
        said
    }

    /// The call ended before anybody decided.
    pub(crate) async fn withdraw(&self, row: &ApprovalRow) {
        self.waiting().remove(&row.id);
        if let Err(error) = self.store.withdraw_approval(&row.workspace, row.id).await {
            // It cannot be decided all the same: nobody waits for it.
            tracing::warn!(approval.id = %row.id, error = %error, "an approval could not be withdrawn");
        }
    }

    async fn signer(&self) -> Result<&Signer, BrokerError> {
        let made = self.signer.get_or_try_init(async || {
            let secret = self.store.signing_secret(SECRET).await?;
            Ok::<_, BrokerError>(Signer::new(secret))
        });
        made.await.map_err(|mut fault| {
            fault.detail = format!(
                "there is no key to sign confirmations with: {}",
                fault.detail
            );
            fault
        })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<ApprovalId, oneshot::Sender<Word>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever asked hears of it, and whoever decides.
    fn tell(&self, kind: EventKind, row: &ApprovalRow, word: &str) {
        let data = json!({
            "approval_id": row.id.to_string(), "ref": row.reference, "user": row.user,
            "call_id": row.call_id.map(|id| id.to_string()), "state": row.state.as_str(), "summary": word,
            "expires_at": rfc3339(row.expires_at), "decided_by": row.decided_by, "note": row.note,
        });
        let Ok(data) = serde_json::value::to_raw_value(&data) else {
            return;
        };
        self.events.publish(NewEvent {
            kind,
            workspace: row.workspace.clone(),
            user: Some(row.user.clone()),
            trace_id: Some(row.trace_id.clone()),
            session_id: None,
            // Not among the events of the held call: those end with its end.
            call_id: None,
            agent_id: None,
            data,
        });
    }
}

fn binding(row: &ApprovalRow) -> Binding<'_> {
    Binding {
        workspace: &row.workspace,
        user: &row.user,
        reference: &row.reference,
        agent_id: &row.agent_id,
        arguments_digest: row.arguments_digest,
        schema_hash: Hash(row.schema_hash.0),
    }
}
