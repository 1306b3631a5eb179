//! Who may manage: by role alone, whatever the rules about tools say.

use super::{MANAGE_SCOPE, Principal, Role};
use crate::error::{BrokerError, ErrorCode, Fault};

impl Principal {
    /// Whether it sees, and may see to, what is not its own in its workspace: the role `admin`, through a key that
    /// was not narrowed away from managing.
    #[must_use]
    pub fn oversees(&self) -> bool {
        manages(self, &[Role::Admin])
    }
}

/// Fails unless the principal manages this workspace.
pub(crate) fn require_admin(who: &Principal) -> Result<(), BrokerError> {
    require_manager(who, &[Role::Admin])
}

/// Fails unless the principal has one of the roles and its key was not narrowed away from managing.
pub(crate) fn require_manager(who: &Principal, roles: &[Role]) -> Result<(), BrokerError> {
    if manages(who, roles) {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::Forbidden,
        "this needs another role than the credential has",
    ))
}

/// Whether the principal has one of the roles, through a key that was not narrowed away from managing.
pub(crate) fn manages(who: &Principal, roles: &[Role]) -> bool {
    let scoped_away = !who.scopes.0.is_empty() && !who.scopes.0.iter().any(|s| s == MANAGE_SCOPE);
    roles.iter().any(|role| who.has(*role)) && !scoped_away
}
