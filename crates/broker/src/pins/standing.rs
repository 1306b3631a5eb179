//! How one definition stands against its pin. Pure.

use catalog::{Entry, Hash, Hints};

use crate::definition::PinRule;

/// How a definition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody watches it.
    Unwatched,
    /// It is the pinned one.
    Pinned,
    /// It has no pin, and being seen first is enough.
    First,
    /// It has no pin, and needs an approval.
    Unapproved,
    /// It differs from its pin.
    Changed {
        /// What the pinned definition said of itself.
        hints: Hints,
        /// The pinned hash.
        hash: Hash,
    },
}

impl Standing {
    pub(super) fn of(pin: Option<(Hash, Hints)>, entry: &Entry, rule: PinRule) -> Self {
        match pin {
            Some((hash, _)) if hash == entry.hash => Self::Pinned,
            Some((hash, hints)) => Self::Changed { hints, hash },
            None => match rule {
                PinRule::Off => Self::Unwatched,
                PinRule::TrustFirstUse => Self::First,
                PinRule::Strict => Self::Unapproved,
            },
        }
    }

    /// Whether the catalogue marks it.
    pub(crate) fn is_quarantined(self) -> bool {
        matches!(self, Self::Unapproved | Self::Changed { .. })
    }

    /// As people read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unwatched => "unwatched",
            Self::Pinned => "pinned",
            Self::First => "new",
            Self::Unapproved => "unapproved",
            Self::Changed { .. } => "changed",
        }
    }

    /// The hints to act by: a changed definition neither loosens what was promised, nor hides what it now admits.
    pub(super) fn careful(self, told: Hints) -> Hints {
        let Self::Changed { hints, .. } = self else {
            return told;
        };
        Hints {
            read_only: hints.read_only && told.read_only,
            destructive: hints.destructive || told.destructive,
            idempotent: hints.idempotent && told.idempotent,
            open_world: hints.open_world || told.open_world,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_definition_is_taken_at_its_most_careful() {
        let mild = Hints {
            read_only: true,
            destructive: false,
            idempotent: true,
            open_world: false,
        };
        let changed = |hints| Standing::Changed {
            hints,
            hash: Hash([0; 32]),
        };
        assert_eq!(changed(Hints::default()).careful(mild), Hints::default());
        assert_eq!(changed(mild).careful(Hints::default()), Hints::default());
        assert_eq!(changed(mild).careful(mild), mild);
        assert_eq!(Standing::Pinned.careful(mild), mild);
    }
}
