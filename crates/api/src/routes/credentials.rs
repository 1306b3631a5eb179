//! Callers' own credentials: put and removed, listed by name, granted by a link. No route tells a value.

use axum::extract::{RawQuery, State};
use broker::operations::credentials::CredentialView;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::{self, Answer};
use crate::app::{Asked, Named, Shared};
use crate::front::body::{Json, JsonOrDefault};
use crate::front::query::Query;
use crate::problem::Refused;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_credentials))
        .routes(routes!(put_credentials, delete_credentials))
        .routes(routes!(authorize_server))
}

/// What the caller has for which servers, and for admins what the workspace has: names only.
#[utoipa::path(
    get, path = "/v1/credentials", operation_id = "list_credentials", tag = "credentials",
    responses((status = 200, body = wire::Items<wire::Credential>))
)]
async fn list_credentials(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    Query::parse(raw.as_deref(), &[], &[])?;
    let views = app.broker.list_credentials(&asker).await?;
    let items = views.into_iter().map(shown).collect();
    answer::json(&wire::Items { items })
}

fn shown(view: CredentialView) -> wire::Credential {
    let grants = view.grants.into_iter().map(|grant| wire::Grant {
        issuer: grant.issuer,
        scope: grant.scope,
        token_ends_at: grant.token_ends_at,
    });
    wire::Credential {
        server: view.server,
        shared: view.shared,
        secrets: view.secrets,
        grants: grants.collect(),
        updated_at: view.updated_at,
    }
}

/// Puts the caller's secrets for a server, in place of those that were there. They are never told again.
#[utoipa::path(
    put, path = "/v1/credentials/{server}", operation_id = "put_credentials", tag = "credentials",
    params(("server" = String, Path)),
    request_body = wire::PutCredentials,
    responses((status = 204, description = "Kept"))
)]
async fn put_credentials(
    State(app): State<Shared>,
    named: Named,
    Json(body): Json<wire::PutCredentials>,
) -> Answer {
    let Named { asker, name } = named;
    app.broker
        .put_credentials(&asker, &name, body.secrets, body.shared)
        .await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Removes the caller's secrets and grants for a server.
#[utoipa::path(
    delete, path = "/v1/credentials/{server}", operation_id = "delete_credentials", tag = "credentials",
    params(("server" = String, Path), ("shared" = Option<bool>, Query)),
    responses((status = 204, description = "Removed"))
)]
async fn delete_credentials(
    State(app): State<Shared>,
    named: Named,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["shared"], &[])?;
    let shared = match query.text("shared").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refused::invalid("`shared` is true or false")),
    };
    let Named { asker, name } = named;
    app.broker.delete_credentials(&asker, &name, shared).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// A link by which a person grants the bridge access to a server.
#[utoipa::path(
    post, path = "/v1/credentials/{server}/authorize", operation_id = "authorize_server", tag = "credentials",
    params(("server" = String, Path)),
    request_body = wire::Authorize,
    responses((status = 200, body = wire::GrantLink))
)]
async fn authorize_server(
    State(app): State<Shared>,
    named: Named,
    JsonOrDefault(body): JsonOrDefault<wire::Authorize>,
) -> Answer {
    let Named { asker, name } = named;
    let link = app
        .broker
        .authorize_server(&asker, &name, body.shared)
        .await?;
    answer::json(&wire::GrantLink {
        url: link.url,
        expires_at: link.expires_at,
    })
}
