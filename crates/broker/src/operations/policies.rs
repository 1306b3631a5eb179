//! The policy in force, and how another one takes its place.

use chrono::Utc;
use sessions::{UserId, WorkspaceId};

use super::{Broker, Inner};
use crate::keys::DEFAULT_WORKSPACE;
use crate::policy::Policy;
use crate::principal::Role;
use crate::store::Action;

/// Under which name the store remembers the policy last in force, so that a change over a restart is audited too.
const LAST: &str = "policy";
/// Who changes the policy: whoever writes the file.
const AUTHOR: &str = "config-file";

impl Broker {
    /// Puts a policy in force for every call from now on. A change is audited.
    pub async fn apply_policy(&self, policy: Policy) {
        let inner = &self.inner;
        let digest = catalog::Hash(*policy.digest()).short();
        let before = inner.policy.replace(policy);
        if *before.digest() != *inner.policy.now().digest() {
            inner.catalogues.moved_everywhere();
        }
        inner.note_policy(&digest).await;
    }

    /// Whether a role means something here.
    #[must_use]
    pub fn knows_role(&self, role: Role) -> bool {
        self.inner.policy.now().knows(role)
    }

    /// Every role there is, by name.
    #[must_use]
    pub fn role_names(&self) -> Vec<String> {
        self.inner.policy.now().role_names()
    }
}

impl Inner {
    /// Writes down that another policy is in force than last. It is in force already: a store that fails is told of.
    async fn note_policy(&self, digest: &str) {
        let last = self.store.note(LAST).await;
        match last {
            Ok(Some(last)) if last == digest => return,
            // What is in force from the first start on is no change.
            Ok(None) if digest == catalog::Hash(*Policy::default().digest()).short() => return,
            _ => {}
        }
        let (Ok(workspace), Ok(user)) = (WorkspaceId::new(DEFAULT_WORKSPACE), UserId::new(AUTHOR))
        else {
            return;
        };
        let action = Action {
            id: format!("act_{}", uuid::Uuid::now_v7()),
            workspace,
            user,
            key_id: AUTHOR.to_owned(),
            action: "policy_changed".to_owned(),
            target: digest.to_owned(),
            trace_id: String::new(),
            created_at: Utc::now(),
        };
        let written = async {
            self.store.add_action(&action).await?;
            self.store.put_note(LAST, digest).await
        };
        if let Err(error) = written.await {
            tracing::error!(error = %error, "a change of policy could not be written down");
        }
    }
}
