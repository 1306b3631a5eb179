//! Coming in, staying and leaving: credentials held against what is known, logins of browsers.

use std::time::Duration;

use super::Broker;
use crate::access::Credential;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::logins::{self, NewLogin};
use crate::principal::Principal;
use crate::trace::Trace;

impl Broker {
    /// The principal behind a key or a token of the issuer.
    ///
    /// # Errors
    /// `unauthenticated`, the same for unknown, wrong, expired and revoked; `resource_not_found` for a workspace
    /// that is not the principal's; `store_unavailable`.
    pub async fn authenticate(
        &self,
        token: &str,
        workspace: Option<&str>,
    ) -> Result<Principal, BrokerError> {
        self.inner.access.admit_token(token, workspace).await
    }

    /// The principal behind a credential of any kind.
    ///
    /// # Errors
    /// As [`Broker::authenticate`].
    pub async fn admit(
        &self,
        credential: &Credential,
        workspace: Option<&str>,
    ) -> Result<Principal, BrokerError> {
        self.inner.access.admit(credential, workspace).await
    }

    /// Returns when a credential no longer opens what it opened: revoked, expired, or its roles, scopes or workspace
    /// changed, on whatever node; within a second. While the store is away everything stays as it was.
    pub async fn until_lost(&self, credential: Credential, mut held: Principal) {
        let mut changes = self.inner.keys.changes();
        // Whatever changed between the request's check and now is heard of, too.
        changes.mark_changed();
        let workspace = held.workspace.clone();
        loop {
            tokio::select! {
                () = expiry(&held) => {}
                told = changes.changed() => if told.is_err() {
                    return std::future::pending().await;
                },
            }
            match self.admit(&credential, Some(workspace.as_str())).await {
                Ok(now) if opens_the_same(&held, &now) => held = now,
                Err(fault) if fault.code == ErrorCode::StoreUnavailable => {
                    tokio::time::sleep(ASK_AGAIN).await;
                    changes.mark_changed();
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Begins a login with a key or a token of the issuer; it ends after `ttl`, with the credential, or by
    /// [`Broker::end_login`].
    ///
    /// # Errors
    /// As [`Broker::authenticate`].
    pub async fn begin_login(
        &self,
        (token, ttl): (&str, Duration),
        trace: Trace,
    ) -> Result<(NewLogin, Principal), BrokerError> {
        let access = &self.inner.access;
        let mut principal = access.admit_token(token, None).await?;
        let (login, name) = access.begin_login(token, ttl).await?;
        let by = principal.key_id.clone();
        principal.key_id = name;
        let asker = Asker { principal, trace };
        self.inner.note_action(&asker, "login", &by).await;
        Ok((login, asker.principal))
    }

    /// Ends the login this request came by, at once.
    ///
    /// # Errors
    /// `invalid_request` when it came by another credential; `store_unavailable`.
    pub async fn end_login(&self, asker: &Asker) -> Result<(), BrokerError> {
        let name = &asker.principal.key_id;
        let Some(login_id) = logins::id_in(name) else {
            let detail = "this request came by no login";
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        };
        self.inner.store.end_login(login_id).await?;
        self.inner.keys.forget_all();
        self.inner.note_action(asker, "logout", name).await;
        Ok(())
    }
}

/// Between two questions to a store that is away.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The wall clock is looked at as often: it may be set while a stream stands open.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// Returns when the time of a credential is over.
async fn expiry(held: &Principal) {
    let Some(end) = held.expires_at else {
        return std::future::pending().await;
    };
    // Over or not a number of seconds: now.
    while let Ok(left) = (end - chrono::Utc::now()).to_std() {
        tokio::time::sleep(left.min(LOOK_AT_CLOCK)).await;
    }
}

/// Whether what was begun as one principal may go on as the other. A further workspace changes nothing.
fn opens_the_same(one: &Principal, other: &Principal) -> bool {
    one.user == other.user
        && one.workspace == other.workspace
        && one.roles == other.roles
        && one.scopes == other.scopes
}
