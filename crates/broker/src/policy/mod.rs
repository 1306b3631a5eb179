//! Who may call what: a pure decision over the principal's roles, the ref, the tool's hints and the arguments.
//! Asks nobody, keeps nothing but the rules of the configuration, which a reload replaces.

mod built_in;
mod condition;
mod pattern;
mod rules;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use catalog::{Hints, Ref};
use serde_json::Value;

use self::built_in::{check, digest, with_built_in};
pub use self::condition::{BadCondition, Comparison, Condition, WrittenCondition};
use self::pattern::glob;
pub use self::pattern::{BadPattern, Pattern};
pub use self::rules::{Confirm, ConfirmKind, Decision, Hint, Only, RoleRules, Rule};
pub(crate) use self::standing::{manages, require_admin, require_manager};
use crate::error::PointerDetail;
use crate::principal::{Principal, Role};

/// The scope that narrows a key to read-only tools; every other scope is a ref pattern such as `github.get_*`.
const READ_ONLY_SCOPE: &str = "read_only";
/// The scope that lets a narrowed key manage servers and principals.
const MANAGE_SCOPE: &str = "manage";
/// Most roles; each is looked at by name.
const MAX_ROLES: usize = 64;

/// The rules of every role. Immutable; `Policies` holds the one in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    roles: BTreeMap<Role, RoleRules>,
    digest: [u8; 32],
}

/// What is to be decided about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) reference: &'a Ref,
    /// After the owner's overrides.
    pub(crate) hints: Hints,
    /// `None` where a tool is only shown.
    pub(crate) arguments: Option<&'a Value>,
}

/// A decision and the rule that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) decision: Decision,
    pub(crate) because: Because,
    /// With [`Decision::Confirm`]: the caller may confirm by itself.
    pub(crate) self_confirm: bool,
    /// The call needs an idempotency key.
    pub(crate) needs_key: bool,
}

/// Where a decision comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    /// What the key is narrowed to.
    Scopes,
    /// No role opens it.
    NoRule,
    /// A key of a role; a number where it is a list.
    Role(Role, &'static str, Option<usize>),
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scopes => f.write_str("the scopes of the key"),
            Self::NoRule => f.write_str("no role of the caller allows it"),
            Self::Role(role, key, None) => write!(f, "roles.{role}.{key}"),
            Self::Role(role, key, Some(at)) => write!(f, "roles.{role}.{key}[{at}]"),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let roles = with_built_in(BTreeMap::new());
        let digest = digest(&roles);
        Self { roles, digest }
    }
}

impl Policy {
    /// The rules of a configuration; a role it does not name keeps what it has from the start.
    ///
    /// # Errors
    /// The first complaint, its pointer relative to `roles`.
    pub fn new(written: BTreeMap<String, RoleRules>) -> Result<Self, PointerDetail> {
        let complaint = |pointer: String, detail: String| PointerDetail { pointer, detail };
        if written.len() > MAX_ROLES {
            let detail = format!("at most {MAX_ROLES} roles");
            return Err(complaint(String::new(), detail));
        }
        let mut roles = BTreeMap::new();
        for (name, rules) in written {
            let role = Role::named(&name)
                .map_err(|error| complaint(format!("/{name}"), error.to_string()))?;
            check(&rules)
                .map_err(|(place, detail)| complaint(format!("/{name}{place}"), detail))?;
            roles.insert(role, rules);
        }
        let roles = with_built_in(roles);
        let digest = digest(&roles);
        Ok(Self { roles, digest })
    }

    /// Over every rule: equal where all decisions are.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether a role has rules, or is built in.
    #[must_use]
    pub fn knows(&self, role: Role) -> bool {
        self.roles.contains_key(&role)
    }

    /// Names of all roles, for people.
    #[must_use]
    pub fn role_names(&self) -> Vec<String> {
        self.roles.keys().map(ToString::to_string).collect()
    }

    /// Decides. Hide wins over deny, deny over confirm, confirm over allow, across all roles of the principal; what
    /// nothing allows is denied.
    #[must_use]
    pub(crate) fn decide(&self, who: &Principal, subject: Subject<'_>) -> Verdict {
        let (server, tool) = (subject.reference.server.as_str(), &*subject.reference.name);
        if !in_scope(who, server, tool) {
            return Verdict::of(Decision::Hide, Because::Scopes);
        }
        let mut pool = Pool::default();
        if !subject.hints.read_only && who.scopes.0.iter().any(|scope| scope == READ_ONLY_SCOPE) {
            pool.add(Decision::Deny, Because::Scopes, false);
        }
        let mut needs_key = false;
        for role in &who.roles {
            if let Some(rules) = self.roles.get(role) {
                weigh(*role, rules, subject, &mut pool);
                needs_key |= rules.require_idempotency_key && !subject.hints.read_only;
            }
        }
        Verdict {
            needs_key,
            ..pool.verdict()
        }
    }

    /// Whether a tool stands in this principal's lists: it may be called, perhaps after a confirmation, perhaps
    /// only with some arguments.
    #[must_use]
    pub(crate) fn shows(&self, who: &Principal, reference: &Ref, hints: Hints) -> bool {
        let subject = Subject {
            reference,
            hints,
            arguments: None,
        };
        self.decide(who, subject).decision <= Decision::Confirm
    }

    /// Whether resources, prompts and sessions of a server may be read at all.
    #[must_use]
    pub(crate) fn may_read(&self, who: &Principal, server: &str) -> bool {
        let mut allow = self.rules_of(who).flat_map(|rules| &rules.allow);
        allow.any(|one| one.fits_server(server)) && self.sees_server(who, server)
    }

    /// Whether a server exists for this principal: some scope begins with it, and no role hides all of it.
    #[must_use]
    pub(crate) fn sees_server(&self, who: &Principal, server: &str) -> bool {
        let mut scopes = scopes(who).peekable();
        let in_scope = scopes.peek().is_none()
            || scopes.any(|scope| {
                let head = scope.split_once('.').map_or(scope, |(head, _)| head);
                glob(head.as_bytes(), server.as_bytes())
            });
        let mut hidden = self.rules_of(who).flat_map(|rules| &rules.hide);
        in_scope && !hidden.any(|one| one.covers(server))
    }

    fn rules_of<'a>(&'a self, who: &'a Principal) -> impl Iterator<Item = &'a RoleRules> {
        who.roles.iter().filter_map(|role| self.roles.get(role))
    }
}

/// Everything one role says of a subject.
fn weigh(role: Role, rules: &RoleRules, subject: Subject<'_>, pool: &mut Pool) {
    let (server, tool) = (subject.reference.server.as_str(), &*subject.reference.name);
    let self_confirm = rules.self_confirm;
    let at = |patterns: &[Pattern]| patterns.iter().position(|one| one.fits(server, tool));
    if let Some(at) = at(&rules.hide) {
        pool.add(Decision::Hide, Because::Role(role, "hide", Some(at)), false);
    }
    let open = rules.only.is_none() || subject.hints.read_only;
    if let (Some(at), true) = (at(&rules.allow), open) {
        pool.add(
            Decision::Allow,
            Because::Role(role, "allow", Some(at)),
            false,
        );
    }
    if let Some(confirm) = &rules.confirm
        && confirm.fits((server, tool), subject.hints)
    {
        let because = Because::Role(role, "confirm", None);
        pool.add(Decision::Confirm, because, self_confirm);
    }
    for (at, rule) in rules.rules.iter().enumerate() {
        if rule.is_about((server, tool), subject.hints) && rule.holds(subject.arguments) {
            let because = Because::Role(role, "rules", Some(at));
            pool.add(rule.decision, because, self_confirm);
        }
    }
}

/// The first reason of each decision.
#[derive(Debug, Default)]
struct Pool {
    hide: Option<Because>,
    deny: Option<Because>,
    confirm: Option<Because>,
    allow: Option<Because>,
    /// A role that wants a confirmation does not leave it to the caller.
    by_another: bool,
}

impl Pool {
    fn add(&mut self, decision: Decision, because: Because, self_confirm: bool) {
        let place = match decision {
            Decision::Hide => &mut self.hide,
            Decision::Deny => &mut self.deny,
            Decision::Allow => &mut self.allow,
            Decision::Confirm => {
                self.by_another |= !self_confirm;
                &mut self.confirm
            }
        };
        place.get_or_insert(because);
    }

    fn verdict(self) -> Verdict {
        let Self {
            hide,
            deny,
            confirm,
            allow,
            by_another,
        } = self;
        match (hide, deny, allow, confirm) {
            (Some(because), ..) => Verdict::of(Decision::Hide, because),
            (None, Some(because), ..) => Verdict::of(Decision::Deny, because),
            (None, None, None, _) => Verdict::of(Decision::Deny, Because::NoRule),
            (None, None, Some(_), Some(because)) => Verdict {
                self_confirm: !by_another,
                ..Verdict::of(Decision::Confirm, because)
            },
            (None, None, Some(because), None) => Verdict::of(Decision::Allow, because),
        }
    }
}

impl Verdict {
    fn of(decision: Decision, because: Because) -> Self {
        Self {
            decision,
            because,
            self_confirm: false,
            needs_key: false,
        }
    }
}

fn in_scope(who: &Principal, server: &str, name: &str) -> bool {
    let mut scopes = scopes(who).peekable();
    scopes.peek().is_none()
        || scopes.any(|scope| {
            let (head, tail) = scope.split_once('.').unwrap_or((scope, "*"));
            glob(head.as_bytes(), server.as_bytes()) && glob(tail.as_bytes(), name.as_bytes())
        })
}

fn scopes(who: &Principal) -> impl Iterator<Item = &str> {
    let scopes = who.scopes.0.iter().map(String::as_str);
    scopes.filter(|scope| *scope != READ_ONLY_SCOPE && *scope != MANAGE_SCOPE)
}

/// The policy in force. Cheap to clone and to read; a reload replaces it for every call from then on.
#[derive(Debug, Clone)]
pub(crate) struct Policies(Arc<ArcSwap<Policy>>);

impl Policies {
    pub(crate) fn new(policy: Policy) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(policy)))
    }

    /// The one in force.
    pub(crate) fn now(&self) -> Arc<Policy> {
        self.0.load_full()
    }

    /// Puts another in force; the one before it.
    pub(crate) fn replace(&self, policy: Policy) -> Arc<Policy> {
        self.0.swap(Arc::new(policy))
    }
}
