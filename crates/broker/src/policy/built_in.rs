//! The roles that exist without a word, and what no type can say of those that are written.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::pattern::Pattern;
use super::rules::{Confirm, Decision, Only, RoleRules};
use crate::principal::Role;

/// Most patterns of one list, rules of one role and conditions of one rule: all of a role's are walked for each call.
const MAX_LISTED: usize = 64;
const MAX_CONDITIONS: usize = 16;

/// What no type can say of a role.
pub(super) fn check(rules: &RoleRules) -> Result<(), (String, String)> {
    let confirm = match &rules.confirm {
        Some(Confirm::Tools(patterns)) => patterns.len(),
        Some(Confirm::Kind(_)) | None => 0,
    };
    for (key, count) in [
        ("allow", rules.allow.len()),
        ("hide", rules.hide.len()),
        ("confirm", confirm),
        ("rules", rules.rules.len()),
    ] {
        if count > MAX_LISTED {
            return Err((format!("/{key}"), format!("at most {MAX_LISTED}")));
        }
    }
    for (at, rule) in rules.rules.iter().enumerate() {
        if rule.tools.is_empty() || rule.tools.len() > MAX_LISTED {
            let detail = format!("1 to {MAX_LISTED} patterns");
            return Err((format!("/rules/{at}/tools"), detail));
        }
        if rule.when.len() > MAX_CONDITIONS {
            let detail = format!("at most {MAX_CONDITIONS} conditions");
            return Err((format!("/rules/{at}/when"), detail));
        }
        if rule.decision == Decision::Hide && !rule.when.is_empty() {
            let detail = "a tool is hidden whatever its arguments: hide takes no condition";
            return Err((format!("/rules/{at}/when"), detail.to_owned()));
        }
    }
    Ok(())
}

/// The roles that exist without a word (rulings.md § Policy). An admin's own calls pass the same gates as an
/// operator's, unless the configuration says otherwise of `admin`.
pub(super) fn with_built_in(mut roles: BTreeMap<Role, RoleRules>) -> BTreeMap<Role, RoleRules> {
    let everything = || RoleRules {
        allow: vec![Pattern::everything()],
        ..RoleRules::default()
    };
    roles.entry(Role::Approver).or_default();
    roles.entry(Role::Viewer).or_insert_with(|| RoleRules {
        only: Some(Only::ReadOnly),
        ..everything()
    });
    let operator = roles
        .entry(Role::Operator)
        .or_insert_with(everything)
        .clone();
    roles.entry(Role::Admin).or_insert_with(|| {
        let gates = operator.rules.into_iter();
        RoleRules {
            confirm: operator.confirm,
            rules: gates
                .filter(|rule| rule.decision == Decision::Confirm)
                .collect(),
            self_confirm: operator.self_confirm,
            require_idempotency_key: operator.require_idempotency_key,
            ..everything()
        }
    });
    roles
}

/// Over every rule of every role.
pub(super) fn digest(roles: &BTreeMap<Role, RoleRules>) -> [u8; 32] {
    let named: BTreeMap<String, &RoleRules> = roles
        .iter()
        .map(|(role, rules)| (role.to_string(), rules))
        .collect();
    // Texts, numbers and lists: they always have a form.
    Sha256::digest(serde_json::to_vec(&named).unwrap_or_default()).into()
}
