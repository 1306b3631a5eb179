//! Who may ask: the caller itself, users, keys, workspaces.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use broker::Role;
use broker::operations::api_keys::{CreateKey, FreshKey, KeyView};
use broker::operations::principals::UserView;
use http::StatusCode;
use secrecy::ExposeSecret as _;
use sessions::{UserId, WorkspaceId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::at;
use super::views;
use crate::answer::{self, Answer};
use crate::app::{App, Asked, Named, Segment, Shared};
use crate::front::body::{Json, JsonOrDefault};
use crate::front::query::Query;
use crate::problem::Refused;
use crate::suggestion;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(create_user, list_users))
        .routes(routes!(create_key, list_keys))
        .routes(routes!(revoke_key))
        .routes(routes!(rotate_key))
        .routes(routes!(create_workspace, list_workspaces))
}

pub(super) fn role_name(role: Role) -> String {
    role.to_string()
}

/// A role that is built in or that the configuration names: another would mean nothing.
fn role(app: &App, word: &str, pointer: &str) -> Result<Role, Refused> {
    let role = Role::named(word).ok();
    role.filter(|role| app.broker.knows_role(*role))
        .ok_or_else(|| {
            let known = app.broker.role_names();
            let known = known.iter().map(String::as_str);
            at(pointer, &suggestion::unknown("role", word, known))
        })
}

fn user_id(text: &str) -> Result<UserId, Refused> {
    UserId::new(text).map_err(|error| at("/user", &error.to_string()))
}

fn workspace_id(text: &str, pointer: &str) -> Result<WorkspaceId, Refused> {
    WorkspaceId::new(text).map_err(|error| at(pointer, &error.to_string()))
}

/// Who the credential is.
#[utoipa::path(get, path = "/v1/me", operation_id = "me", tag = "principals", responses((status = 200, body = wire::Me)))]
async fn me(Asked(asker): Asked) -> Answer {
    let principal = asker.principal;
    answer::json(&wire::Me {
        user: principal.user.into(),
        workspace: principal.workspace.into(),
        workspaces: principal.workspaces.into_iter().map(String::from).collect(),
        roles: principal.roles.into_iter().map(role_name).collect(),
        key_id: principal.key_id,
        scopes: principal.scopes.0,
    })
}

/// Creates a user, or changes its roles.
#[utoipa::path(
    post, path = "/v1/users", operation_id = "create_user", tag = "principals",
    request_body = wire::CreateUser,
    responses((status = 201, body = wire::User))
)]
async fn create_user(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Json(body): Json<wire::CreateUser>,
) -> Answer {
    let user = user_id(&body.user)?;
    let mut workspaces = Vec::new();
    for (place, membership) in body.workspaces.iter().enumerate() {
        let workspace = workspace_id(
            &membership.workspace,
            &format!("/workspaces/{place}/workspace"),
        )?;
        let pointer = format!("/workspaces/{place}/roles");
        let roles: Result<Vec<Role>, Refused> = membership
            .roles
            .iter()
            .map(|word| role(&app, word, &pointer))
            .collect();
        workspaces.push((workspace, roles?));
    }
    let view = app.broker.create_user(&asker, user, workspaces).await?;
    Ok(answer::with_status(
        answer::json(&user_view(view))?,
        StatusCode::CREATED,
    ))
}

fn user_view(view: UserView) -> wire::User {
    let membership = |(workspace, roles): (WorkspaceId, Vec<Role>)| wire::Membership {
        workspace: workspace.into(),
        roles: roles.into_iter().map(role_name).collect(),
    };
    wire::User {
        user: view.user.into(),
        workspaces: view.workspaces.into_iter().map(membership).collect(),
        created_at: Some(view.created_at),
    }
}

/// Users.
#[utoipa::path(
    get, path = "/v1/users", operation_id = "list_users", tag = "principals",
    params(("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::User>))
)]
async fn list_users(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["limit", "cursor"], &[])?;
    let page = app
        .broker
        .list_users(&asker, super::page(&mut query)?)
        .await?;
    answer::json(&views::page(page, user_view))
}

/// Creates a key; its secret is shown this once.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "create_key", tag = "principals",
    request_body = wire::CreateKey,
    responses((status = 201, body = wire::NewKey))
)]
async fn create_key(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Json(body): Json<wire::CreateKey>,
) -> Answer {
    let numbered = body.workspaces.iter().enumerate();
    let workspaces: Result<Vec<WorkspaceId>, Refused> = numbered
        .map(|(place, text)| workspace_id(text, &format!("/workspaces/{place}")))
        .collect();
    let request = CreateKey {
        user: user_id(&body.user)?,
        workspaces: workspaces?,
        scopes: body.scopes,
        expires_in: body.expires_in_s.map(Duration::from_secs),
        name: body.name,
    };
    shown_once(app.broker.create_key(&asker, request).await?)
}

fn shown_once(fresh: FreshKey) -> Answer {
    let shown = answer::json(&wire::NewKey {
        key_id: fresh.view.key_id,
        key: fresh.token.expose_secret().to_owned(),
        user: fresh.view.user.into(),
        expires_at: fresh.view.expires_at,
    })?;
    Ok(answer::with_status(shown, StatusCode::CREATED))
}

/// Replaces a key; the new one is shown this once, the old one is good for the overlap.
#[utoipa::path(
    post, path = "/v1/keys/{key_id}/rotate", operation_id = "rotate_key", tag = "principals",
    params(("key_id" = String, Path)),
    request_body = wire::RotateKey,
    responses((status = 201, body = wire::NewKey))
)]
async fn rotate_key(
    State(app): State<Shared>,
    Named {
        asker,
        name: key_id,
    }: Named,
    JsonOrDefault(body): JsonOrDefault<wire::RotateKey>,
) -> Answer {
    let overlap = body.overlap_s.map(Duration::from_secs);
    let fresh = app.broker.rotate_key(&asker, (&key_id, overlap)).await?;
    shown_once(fresh)
}

/// Keys, without their secrets.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "list_keys", tag = "principals",
    params(("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::Key>))
)]
async fn list_keys(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["limit", "cursor"], &[])?;
    let page = app
        .broker
        .list_keys(&asker, super::page(&mut query)?)
        .await?;
    answer::json(&views::page(page, key_view))
}

fn key_view(view: KeyView) -> wire::Key {
    wire::Key {
        key_id: view.key_id,
        prefix: view.prefix,
        user: view.user.into(),
        name: view.name,
        workspaces: view.workspaces.into_iter().map(String::from).collect(),
        scopes: view.scopes,
        created_at: view.created_at,
        expires_at: view.expires_at,
        last_used_at: view.last_used_at,
        revoked_at: view.revoked_at,
    }
}

/// Revokes a key at once.
#[utoipa::path(
    delete, path = "/v1/keys/{key_id}", operation_id = "revoke_key", tag = "principals",
    params(("key_id" = String, Path)),
    responses((status = 204, description = "Revoked"))
)]
async fn revoke_key(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(key_id): Segment,
) -> Answer {
    app.broker.revoke_key(&asker, &key_id).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Creates a workspace.
#[utoipa::path(
    post, path = "/v1/workspaces", operation_id = "create_workspace", tag = "principals",
    request_body = wire::CreateWorkspace,
    responses((status = 201, body = wire::Workspace))
)]
async fn create_workspace(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Json(body): Json<wire::CreateWorkspace>,
) -> Answer {
    let workspace = workspace_id(&body.workspace, "/workspace")?;
    app.broker.create_workspace(&asker, workspace).await?;
    let shown = wire::Workspace {
        workspace: body.workspace,
    };
    Ok(answer::with_status(
        answer::json(&shown)?,
        StatusCode::CREATED,
    ))
}

/// The workspaces the credential opens; all of them for `admin`.
#[utoipa::path(
    get, path = "/v1/workspaces", operation_id = "list_workspaces", tag = "principals",
    responses((status = 200, body = wire::Items<wire::Workspace>))
)]
async fn list_workspaces(State(app): State<Shared>, Asked(asker): Asked) -> Answer {
    let found = app.broker.list_workspaces(&asker).await?;
    let shown = |workspace: WorkspaceId| wire::Workspace {
        workspace: workspace.into(),
    };
    let items = found.into_iter().map(shown).collect();
    answer::json(&wire::Items { items })
}
