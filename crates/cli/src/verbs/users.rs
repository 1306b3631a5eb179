//! `user` and `workspace`: who there is, where, and as what.

use api::wire::{CreateUser, CreateWorkspace, Membership};
use serde_json::{Value, json};

use super::{Desk, facts, text};
use crate::ask::Ask;
use crate::failure::Failure;
use crate::options::{User, Workspace};
use crate::screen;

/// Runs one of the verbs about users.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn user(desk: &Desk, verb: &User) -> Result<(), Failure> {
    match verb {
        User::List => {
            let body = desk.ask(Ask::get("/v1/users")).await?.value()?;
            desk.output.list("users", &body, |user| line(user, "user"))
        }
        User::Create {
            name,
            workspaces,
            roles,
        } => {
            let membership = |workspace: &String| Membership {
                workspace: workspace.clone(),
                roles: roles.clone(),
            };
            let wish = json!(CreateUser {
                user: name.clone(),
                workspaces: workspaces.iter().map(membership).collect(),
            });
            let ask = Ask::post("/v1/users", wish.to_string().into_bytes());
            desk.ask_and_show(ask, "user").await?;
            desk.output.note(&format!(
                "`paperbot-mcp key create {name}` makes a key for this user"
            ));
            Ok(())
        }
    }
}

/// Runs one of the verbs about workspaces.
///
/// # Errors
/// As [`user`].
pub(crate) async fn workspace(desk: &Desk, verb: &Workspace) -> Result<(), Failure> {
    match verb {
        Workspace::List => {
            let body = desk.ask(Ask::get("/v1/workspaces")).await?.value()?;
            let shown = |one: &Value| line(one, "workspace");
            desk.output.list("workspaces", &body, shown)
        }
        Workspace::Create { id } => {
            let wish = json!(CreateWorkspace {
                workspace: id.clone(),
            });
            let ask = Ask::post("/v1/workspaces", wish.to_string().into_bytes());
            desk.ask_and_show(ask, "workspace").await.map(drop)
        }
    }
}

fn line(item: &Value, name: &str) -> String {
    let head = screen::one_line(text(item, name));
    let rest = facts(item, &["workspaces", "created_at"]);
    format!("{head}  {rest}").trim_end().to_owned()
}
