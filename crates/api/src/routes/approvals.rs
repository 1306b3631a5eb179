//! Approvals: listed, read, decided.

use axum::extract::{RawQuery, State};
use broker::ApprovalState;
use broker::operations::approvals::{ApprovalView, DecideApproval, ListApprovals};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views;
use crate::answer::{self, Answer};
use crate::app::{Asked, Named, Shared};
use crate::front::body::Json;
use crate::front::query::Query;
use crate::problem::Refused;
use crate::suggestion;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_approvals))
        .routes(routes!(get_approval, decide_approval))
}

/// Approvals, newest first: one's own, or the workspace's for `approver` and `admin`.
#[utoipa::path(
    get, path = "/v1/approvals", operation_id = "list_approvals", tag = "approvals",
    params(
        ("state" = Option<String>, Query, description = "`pending`, `approved`, `denied`, `used`, `withdrawn`, `expired`"),
        ("limit" = Option<u64>, Query, description = "1 to 500, default 50"),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = wire::Page<wire::Approval>))
)]
async fn list_approvals(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["state", "limit", "cursor"], &[])?;
    let request = ListApprovals {
        state: query.text("state").map(|word| state(&word)).transpose()?,
        page: super::page(&mut query)?,
    };
    let page = app.broker.list_approvals(&asker, request).await?;
    answer::json(&views::page(page, shown))
}

fn state(word: &str) -> Result<ApprovalState, Refused> {
    ApprovalState::parse(word).ok_or_else(|| {
        let known = [
            "pending",
            "approved",
            "denied",
            "used",
            "withdrawn",
            "expired",
        ];
        Refused::invalid(suggestion::unknown("state", word, known))
    })
}

/// One approval.
#[utoipa::path(
    get, path = "/v1/approvals/{approval_id}", operation_id = "get_approval", tag = "approvals",
    params(("approval_id" = String, Path)),
    responses((status = 200, body = wire::Approval))
)]
async fn get_approval(State(app): State<Shared>, named: Named) -> Answer {
    let view = app.broker.get_approval(&named.asker, &named.name).await?;
    answer::json(&shown(view))
}

/// Decides an approval. A held call goes on; for another the answer holds a token that is good once, for the same
/// request of the same user.
#[utoipa::path(
    post, path = "/v1/approvals/{approval_id}", operation_id = "decide_approval", tag = "approvals",
    params(("approval_id" = String, Path)),
    request_body = wire::DecideApproval,
    responses((status = 200, body = wire::ApprovalDecided))
)]
async fn decide_approval(
    State(app): State<Shared>,
    named: Named,
    Json(body): Json<wire::DecideApproval>,
) -> Answer {
    let decision = DecideApproval {
        approve: body.decision == wire::Decision::Approve,
        note: body.note,
    };
    let deciding = app
        .broker
        .decide_approval(&named.asker, &named.name, decision);
    let decided = deciding.await?;
    answer::json(&wire::ApprovalDecided {
        id: decided.id,
        decision: body.decision,
        confirm_token: decided.confirm_token,
        call_id: decided.call_id,
    })
}

fn shown(view: ApprovalView) -> wire::Approval {
    wire::Approval {
        approval_id: view.id,
        state: view.state.as_str().to_owned(),
        user: view.user,
        reference: view.reference,
        rule: view.rule,
        self_confirm: view.self_confirm,
        decidable: view.decidable,
        preview: view.preview,
        arguments_digest: view.arguments_digest,
        schema_hash: view.schema_hash,
        call_id: view.call_id,
        trace_id: view.trace_id,
        created_at: view.created_at,
        expires_at: view.expires_at,
        decided_at: view.decided_at,
        decided_by: view.decided_by,
        note: view.note,
        confirm_token: view.confirm_token,
    }
}
