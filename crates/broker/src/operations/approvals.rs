//! Approvals as people see and decide them.

use serde_json::Value;

use super::Broker;
use super::page::{Page, PageRequest, bad_cursor};
use crate::approvals::{ApprovalId, ApprovalState, state};
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::instant::rfc3339;
use crate::policy;
use crate::principal::Role;
use crate::store::approvals::ApprovalRow;

/// Longest note, in characters: it is read by whoever asked.
const MAX_NOTE_CHARS: usize = 1000;
/// Rows looked at for one page of a list that wants one state.
const LOOKED_AT: usize = 2000;

/// Which approvals.
#[derive(Debug, Clone, Default)]
pub struct ListApprovals {
    /// Only in this state.
    pub state: Option<ApprovalState>,
    /// Which part; newest first.
    pub page: PageRequest,
}

/// A decision.
#[derive(Debug, Clone)]
pub struct DecideApproval {
    /// Yes or no.
    pub approve: bool,
    /// In words, for whoever asked.
    pub note: Option<String>,
}

/// What a decision came to.
#[derive(Debug, Clone)]
pub struct ApprovalDecided {
    /// `apr_…`.
    pub id: String,
    /// It was approved.
    pub approved: bool,
    /// For the same request, once. `None` when denied, or when the call was held and goes on by itself.
    pub confirm_token: Option<String>,
    /// The held call that goes on.
    pub call_id: Option<String>,
}

/// An approval as it is shown.
#[derive(Debug, Clone)]
pub struct ApprovalView {
    /// `apr_…`.
    pub id: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who asked.
    pub user: String,
    /// `server.tool`.
    pub reference: String,
    /// The rule that wants it.
    pub rule: String,
    /// Whoever asked may confirm.
    pub self_confirm: bool,
    /// The asker of this list may decide it.
    pub decidable: bool,
    /// What a person decides by.
    pub preview: Value,
    /// SHA-256 of the canonical arguments, in hex.
    pub arguments_digest: String,
    /// The definition it is about, short.
    pub schema_hash: String,
    /// The held call.
    pub call_id: Option<String>,
    /// The trace of the request that asked.
    pub trace_id: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub expires_at: String,
    /// RFC 3339, once decided.
    pub decided_at: Option<String>,
    /// By whom.
    pub decided_by: Option<String>,
    /// In whose words.
    pub note: Option<String>,
    /// For whoever asked, once somebody approved: its token.
    pub confirm_token: Option<String>,
}

impl Broker {
    /// Approvals, newest first: the asker's own, or the workspace's for `approver` and `admin`.
    ///
    /// # Errors
    /// `invalid_request`; without a signing key `store_unavailable` or `internal`.
    pub async fn list_approvals(
        &self,
        asker: &Asker,
        request: ListApprovals,
    ) -> Result<Page<ApprovalView>, BrokerError> {
        let limit = request.page.limit()?;
        let cursor = request.page.cursor.as_deref();
        let mut before = cursor
            .map(|cursor| ApprovalId::parse(cursor).ok_or_else(bad_cursor))
            .transpose()?;
        let who = &asker.principal;
        let own = (!decides(asker)).then_some(&who.user);
        let (mut items, mut looked) = (Vec::new(), 0);
        loop {
            let store = &self.inner.store;
            let rows = store
                .list_approvals(&who.workspace, (own, before), limit + 1)
                .await?;
            let more = rows.len() > limit;
            looked += rows.len();
            for row in rows.into_iter().take(limit) {
                before = Some(row.id);
                if request.state.is_none_or(|wanted| wanted == state(&row)) {
                    items.push(self.view(asker, row).await?);
                }
                if items.len() == limit {
                    break;
                }
            }
            if !more || items.len() == limit || looked >= LOOKED_AT {
                let next_cursor = before.filter(|_| more).map(|id| id.to_string());
                return Ok(Page { items, next_cursor });
            }
        }
    }

    /// One approval.
    ///
    /// # Errors
    /// `resource_not_found`, also for somebody else's.
    pub async fn get_approval(&self, asker: &Asker, id: &str) -> Result<ApprovalView, BrokerError> {
        let row = self.approval(asker, id).await?;
        self.view(asker, row).await
    }

    /// Decides an approval: a held call goes on or ends, another is given its token.
    ///
    /// # Errors
    /// `resource_not_found`; `forbidden` for one's own, unless policy leaves it to the caller; `conflict` when it
    /// does not wait for a decision; `invalid_request` for a note too long.
    pub async fn decide_approval(
        &self,
        asker: &Asker,
        id: &str,
        decision: DecideApproval,
    ) -> Result<ApprovalDecided, BrokerError> {
        let long = |note: &String| note.chars().count() > MAX_NOTE_CHARS;
        if decision.note.as_ref().is_some_and(long) {
            let detail = format!("a note has at most {MAX_NOTE_CHARS} characters");
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        }
        let row = self.approval(asker, id).await?;
        if decision.approve && !may_approve(asker, &row) {
            let mut fault = Fault::new(ErrorCode::Forbidden, "somebody else must approve this");
            fault.hint = Some("a user with the role approver or admin decides".to_owned());
            return Err(fault);
        }
        let before = state(&row);
        let inner = &self.inner;
        let by = (asker, decision.approve, decision.note);
        let Some(row) = inner.approvals.decide(row, by).await? else {
            let detail = match before {
                ApprovalState::Pending => {
                    "the approval does not wait for a decision any more".to_owned()
                }
                other => format!("the approval is {} already", other.as_str()),
            };
            return Err(Fault::new(ErrorCode::Conflict, detail));
        };
        let act = if decision.approve {
            "approval_approved"
        } else {
            "approval_denied"
        };
        inner.note_action(asker, act, &row.id.to_string()).await;
        Ok(ApprovalDecided {
            id: row.id.to_string(),
            approved: decision.approve,
            confirm_token: inner.approvals.token(&row).await?,
            call_id: row
                .call_id
                .filter(|_| decision.approve)
                .map(|id| id.to_string()),
        })
    }

    /// An approval this asker may see.
    async fn approval(&self, asker: &Asker, id: &str) -> Result<ApprovalRow, BrokerError> {
        let none = || Fault::new(ErrorCode::ResourceNotFound, "there is no such approval");
        let id = ApprovalId::parse(id).ok_or_else(none)?;
        let who = &asker.principal;
        let row = self.inner.store.approval(&who.workspace, id).await?;
        let seen = row.filter(|row| row.user == who.user || decides(asker));
        seen.ok_or_else(none)
    }

    async fn view(&self, asker: &Asker, row: ApprovalRow) -> Result<ApprovalView, BrokerError> {
        let own = row.user == asker.principal.user;
        let state = state(&row);
        // Of one that nobody approved, the answer to the call told it already.
        let confirm_token = match state {
            ApprovalState::Approved if own => self.inner.approvals.token(&row).await?,
            _ => None,
        };
        Ok(ApprovalView {
            id: row.id.to_string(),
            state,
            user: row.user.to_string(),
            decidable: state == ApprovalState::Pending && may_approve(asker, &row),
            rule: row.rule,
            self_confirm: row.self_confirm,
            // Written by us: it always reads.
            preview: serde_json::from_str(&row.preview).unwrap_or_default(),
            arguments_digest: catalog::Hash(row.arguments_digest).hex(),
            schema_hash: row.schema_hash.short(),
            call_id: row.call_id.map(|id| id.to_string()),
            trace_id: row.trace_id,
            created_at: rfc3339(row.created_at),
            expires_at: rfc3339(row.expires_at),
            decided_at: row.decided_at.map(rfc3339),
            decided_by: row.decided_by.map(|user| user.to_string()),
            note: row.note,
            reference: row.reference,
            confirm_token,
        })
    }
}

/// Whether this asker decides what others ask.
fn decides(asker: &Asker) -> bool {
    policy::manages(&asker.principal, &[Role::Approver, Role::Admin])
}

/// One's own is for others, unless policy leaves it to the caller.
fn may_approve(asker: &Asker, row: &ApprovalRow) -> bool {
    if row.user == asker.principal.user {
        row.self_confirm
    } else {
        decides(asker)
    }
}
