//! What a role may do, as it stands under `roles:` in the configuration. Read and checked once.

use catalog::Hints;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::{Condition, WrittenCondition};
use super::pattern::Pattern;

/// One role. Everything but `allow` only narrows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoleRules {
    /// Tools the role may call, as patterns over `server.tool`.
    #[schemars(with = "Vec<String>")]
    pub allow: Vec<Pattern>,
    /// Only tools of this kind, of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Only>,
    /// Which of them a person must confirm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Confirm>,
    /// Tools that do not exist for the role.
    #[schemars(with = "Vec<String>")]
    pub hide: Vec<Pattern>,
    /// The caller may confirm by itself: its answer carries the token. For programs in front of a person, never
    /// for a model that holds the key itself.
    pub self_confirm: bool,
    /// A tool that is not read-only is called with an idempotency key or not at all.
    pub require_idempotency_key: bool,
    /// Finer rules. All that hold count; the strictest wins.
    pub rules: Vec<Rule>,
}

/// A kind of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Tools that only read.
    ReadOnly,
}

/// What must be confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected destructive, not_read_only or a list of patterns"
)]
pub enum Confirm {
    /// By what the tool says of itself.
    Kind(ConfirmKind),
    /// By name.
    Tools(#[schemars(with = "Vec<String>")] Vec<Pattern>),
}

/// Which kind of tools must be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmKind {
    /// Tools that may destroy something; a tool that does not say counts as one.
    Destructive,
    /// Every tool that is not read-only.
    NotReadOnly,
}

/// One finer rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For which tools.
    #[schemars(with = "Vec<String>")]
    pub tools: Vec<Pattern>,
    /// Only where the tool says all of this of itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<Hint>,
    /// Only where all of this holds of the arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<WrittenCondition>")]
    pub when: Vec<Condition>,
    /// What follows.
    pub decision: Decision,
}

/// What a tool says of itself, after its owner's overrides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    /// It only reads.
    ReadOnly,
    /// It may change something.
    NotReadOnly,
    /// It may destroy something.
    Destructive,
    /// It destroys nothing.
    NotDestructive,
    /// Calling it twice is calling it once.
    Idempotent,
    /// Calling it twice may be two effects.
    NotIdempotent,
    /// It reaches beyond its server.
    OpenWorld,
    /// It stays within its server.
    ClosedWorld,
}

/// What policy says of a call.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go on.
    Allow,
    /// Go on once a person has confirmed.
    Confirm,
    /// The principal's roles do not reach so far.
    Deny,
    /// For this principal there is no such thing.
    Hide,
}

impl Decision {
    /// As in the configuration and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Confirm => "confirm",
            Self::Deny => "deny",
            Self::Hide => "hide",
        }
    }
}

impl Hint {
    fn fits(self, hints: Hints) -> bool {
        match self {
            Self::ReadOnly => hints.read_only,
            Self::NotReadOnly => !hints.read_only,
            Self::Destructive => destroys(hints),
            Self::NotDestructive => !destroys(hints),
            Self::Idempotent => hints.idempotent,
            Self::NotIdempotent => !hints.idempotent,
            Self::OpenWorld => hints.open_world,
            Self::ClosedWorld => !hints.open_world,
        }
    }
}

/// A tool that only reads destroys nothing, whatever it says besides.
fn destroys(hints: Hints) -> bool {
    hints.destructive && !hints.read_only
}

impl Confirm {
    pub(super) fn fits(&self, (server, tool): (&str, &str), hints: Hints) -> bool {
        match self {
            Self::Kind(ConfirmKind::Destructive) => destroys(hints),
            Self::Kind(ConfirmKind::NotReadOnly) => !hints.read_only,
            Self::Tools(patterns) => patterns.iter().any(|one| one.fits(server, tool)),
        }
    }
}

impl Rule {
    /// Whether it is about a tool, its arguments aside.
    pub(super) fn is_about(&self, (server, tool): (&str, &str), hints: Hints) -> bool {
        self.tools.iter().any(|one| one.fits(server, tool))
            && self.hints.iter().all(|hint| hint.fits(hints))
    }

    /// Whether its conditions hold. A comparison that cannot be made holds where the rule narrows and does not
    /// where it opens. Without arguments, in lists: what might open shows the tool, what might narrow does not hide it.
    pub(super) fn holds(&self, arguments: Option<&Value>) -> bool {
        let opens = self.decision == Decision::Allow;
        match arguments {
            _ if self.when.is_empty() => true,
            None => opens,
            Some(arguments) => {
                let mut all = self.when.iter().map(|one| one.holds(arguments));
                all.all(|held| held.unwrap_or(!opens))
            }
        }
    }
}
