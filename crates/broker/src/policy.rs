//! Who may call what: a pure decision over the principal, the ref and the hints. Asks nobody, keeps nothing.

use catalog::{Hints, Ref};

use crate::error::{BrokerError, ErrorCode, Fault};
use crate::principal::{Principal, Role};

/// What policy says of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Go on.
    Allow,
    /// The principal's roles do not reach so far.
    Deny,
    /// For this principal there is no such thing.
    Hide,
}

/// The scope that narrows a key to read-only tools; every other scope is a ref pattern such as `github.get_*`.
const READ_ONLY_SCOPE: &str = "read_only";
/// The scope that lets a narrowed key manage servers and principals.
const MANAGE_SCOPE: &str = "manage";

/// Decides a call. Without a rule, tools that are not read-only are for `operator` and `admin`.
#[must_use]
pub(crate) fn decide(who: &Principal, reference: &Ref, hints: Hints) -> Decision {
    if !in_scope(who, reference.server.as_str(), &reference.name) {
        return Decision::Hide;
    }
    let narrowed = who.scopes.0.iter().any(|scope| scope == READ_ONLY_SCOPE);
    let acts = who.has(Role::Operator) || who.has(Role::Admin);
    let reads = acts || who.has(Role::Viewer);
    match hints.read_only {
        true if reads => Decision::Allow,
        false if acts && !narrowed => Decision::Allow,
        true | false => Decision::Deny,
    }
}

/// Whether resources, prompts and sessions of a server may be read at all.
#[must_use]
pub(crate) fn may_read(who: &Principal, server: &str) -> bool {
    let role = who.has(Role::Viewer) || who.has(Role::Operator) || who.has(Role::Admin);
    role && sees_server(who, server)
}

/// Whether a server exists for this principal: some scope begins with it.
#[must_use]
pub(crate) fn sees_server(who: &Principal, server: &str) -> bool {
    let mut patterns = patterns(who).peekable();
    patterns.peek().is_none()
        || patterns.any(|pattern| {
            let head = pattern.split_once('.').map_or(pattern, |(head, _)| head);
            glob(head.as_bytes(), server.as_bytes())
        })
}

/// Fails unless the principal manages this workspace.
pub(crate) fn require_admin(who: &Principal) -> Result<(), BrokerError> {
    require_manager(who, &[Role::Admin])
}

/// Fails unless the principal has one of the roles and its key was not narrowed away from managing.
pub(crate) fn require_manager(who: &Principal, roles: &[Role]) -> Result<(), BrokerError> {
    let scoped_away = !who.scopes.0.is_empty() && !who.scopes.0.iter().any(|s| s == MANAGE_SCOPE);
    if roles.iter().any(|role| who.has(*role)) && !scoped_away {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::Forbidden,
        "this needs another role than the credential has",
    ))
}

fn in_scope(who: &Principal, server: &str, name: &str) -> bool {
    let mut patterns = patterns(who).peekable();
    patterns.peek().is_none()
        || patterns.any(|pattern| {
            let (head, tail) = pattern.split_once('.').unwrap_or((pattern, "*"));
            glob(head.as_bytes(), server.as_bytes()) && glob(tail.as_bytes(), name.as_bytes())
        })
}

fn patterns(who: &Principal) -> impl Iterator<Item = &str> {
    let scopes = who.scopes.0.iter().map(String::as_str);
    scopes.filter(|scope| *scope != READ_ONLY_SCOPE && *scope != MANAGE_SCOPE)
}

/// `*` matches any run of characters. Linear: only the last star is ever retried.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use sessions::{UserId, WorkspaceId};

    use super::*;
    use crate::principal::Scopes;

    fn who(role: Role, scopes: &[&str]) -> Principal {
        let workspace = WorkspaceId::new("default").unwrap();
        Principal {
            user: UserId::new("u").unwrap(),
            workspace: workspace.clone(),
            workspaces: vec![workspace],
            roles: vec![role],
            key_id: "k".to_owned(),
            scopes: Scopes(scopes.iter().map(|s| (*s).to_owned()).collect()),
        }
    }

    fn call(who: &Principal, read_only: bool) -> Decision {
        let hints = Hints {
            read_only,
            ..Hints::default()
        };
        decide(who, &Ref::parse("git.log.all").unwrap(), hints)
    }

    #[test]
    fn without_a_rule_writing_is_for_operators_and_admins() {
        for (role, read, write) in [
            (Role::Viewer, Decision::Allow, Decision::Deny),
            (Role::Approver, Decision::Deny, Decision::Deny),
            (Role::Operator, Decision::Allow, Decision::Allow),
            (Role::Admin, Decision::Allow, Decision::Allow),
        ] {
            assert_eq!(
                (call(&who(role, &[]), true), call(&who(role, &[]), false)),
                (read, write)
            );
        }
    }

    #[test]
    fn a_scope_hides_what_it_does_not_name_and_never_widens_a_role() {
        assert_eq!(
            call(&who(Role::Operator, &["git.*"]), false),
            Decision::Allow
        );
        assert_eq!(
            call(&who(Role::Operator, &["g*.l*.a*l"]), false),
            Decision::Allow
        );
        assert_eq!(
            call(&who(Role::Operator, &["hub.*", "git.commit"]), false),
            Decision::Hide
        );
        assert_eq!(
            call(&who(Role::Operator, &["read_only"]), false),
            Decision::Deny
        );
        assert_eq!(call(&who(Role::Viewer, &["git.*"]), false), Decision::Deny);
        assert!(sees_server(&who(Role::Viewer, &["git.log"]), "git"));
        assert!(!sees_server(&who(Role::Viewer, &["git.log"]), "hub"));
        assert!(require_admin(&who(Role::Admin, &["git.*"])).is_err());
        assert!(require_admin(&who(Role::Admin, &["manage"])).is_ok());
    }
}
