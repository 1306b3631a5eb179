//! Workspaces and roles out of a token's claims. What is no workspace id or no role of ours is passed over.

use serde_json::{Map, Value};
use sessions::WorkspaceId;

use super::IssuerOptions;
use crate::principal::Role;

/// Workspaces one token may name; the rest is passed over.
const MAX_WORKSPACES: usize = 64;

/// What a token opens. The workspace claim is a list (or one name), and the roles hold in each of them; or it is an
/// object of roles by workspace.
pub(super) fn memberships(
    claims: &Map<String, Value>,
    options: &IssuerOptions,
) -> Vec<(WorkspaceId, Vec<Role>)> {
    let roles = claim(claims, &options.roles_claim).map_or_else(Vec::new, roles);
    let mut found: Vec<(WorkspaceId, Vec<Role>)> = Vec::new();
    let mut add = |name: &str, roles: Vec<Role>| {
        let Ok(workspace) = WorkspaceId::new(name) else {
            return;
        };
        let known = found.iter().any(|(one, _)| *one == workspace);
        if !known && found.len() < MAX_WORKSPACES {
            found.push((workspace, roles));
        }
    };
    match claim(claims, &options.workspace_claim) {
        Some(Value::Object(by_workspace)) => {
            // By name: the first is where requests stand that name none, so it must be the same each time.
            let mut sorted: Vec<_> = by_workspace.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| name.as_str());
            for (name, own) in sorted {
                add(name, self::roles(own));
            }
        }
        Some(listed) => {
            for name in words(listed) {
                add(name, roles.clone());
            }
        }
        None => {}
    }
    found
}

/// The claim of this whole name, else what its dots lead to.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let mut parts = name.split('.');
    let first = claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

fn roles(value: &Value) -> Vec<Role> {
    let mut roles: Vec<Role> = words(value)
        .filter_map(|word| serde_json::from_value(Value::String(word.to_owned())).ok())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// The texts of a list, or the one text there is.
fn words(value: &Value) -> impl Iterator<Item = &str> {
    let one = value.as_str();
    let many = value.as_array().into_iter().flatten();
    one.into_iter().chain(many.filter_map(Value::as_str))
}
