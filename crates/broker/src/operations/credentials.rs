//! Callers' own credentials for servers: put, listed by name, granted, removed. Nothing here ever tells a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;
use secrecy::{ExposeSecret as _, SecretString};
use sessions::UserId;

mod views;

use self::views::add;
pub use self::views::{
    CredentialView, GrantBegun, GrantLink, GrantQuestion, GrantReturned, GrantView,
};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::definition::is_secret_name;
use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};
use crate::instant::rfc3339;
use crate::policy;
use crate::principal::Role;
use crate::registry::{Server, refused};
use crate::store::Action;
use crate::vault::{Begun, Holder, Kind, Returned, destination};

/// Secrets of one holder for one server.
const MAX_SECRETS: usize = 32;
/// Longest secret, in bytes: a key or certificate, no document.
const MAX_SECRET_BYTES: usize = 64 * 1024;
/// Every role: whoever may use a server may bring credentials for it.
const ANY_ROLE: [Role; 4] = [Role::Admin, Role::Approver, Role::Operator, Role::Viewer];

impl Broker {
    /// Puts the asker's secrets for a server in place of those it had; `shared`: the workspace's, by an admin.
    ///
    /// # Errors
    /// `server_not_found`, `forbidden`, `invalid_arguments`, `conflict` without a sealing key, `store_unavailable`.
    #[expect(
        clippy::too_many_arguments,
        reason = "who, for which server, what, and for whom"
    )]
    pub async fn put_credentials(
        &self,
        asker: &Asker,
        server: &str,
        secrets: BTreeMap<String, SecretString>,
        shared: bool,
    ) -> Result<(), BrokerError> {
        let inner = &self.inner;
        let (server, holder) = inner.own_credentials(asker, server, shared)?;
        check_secrets(&secrets)?;
        let to = destination(&server)?;
        inner.vault.put_secrets(&holder, &to, &secrets).await?;
        inner.renew_access(&holder);
        inner
            .note_action(asker, "credentials_put", server.name.as_str())
            .await;
        Ok(())
    }

    /// Removes the asker's secrets and grants for a server; `shared`: the workspace's, by an admin.
    ///
    /// # Errors
    /// `server_not_found`, `forbidden`, `store_unavailable`.
    pub async fn delete_credentials(
        &self,
        asker: &Asker,
        server: &str,
        shared: bool,
    ) -> Result<(), BrokerError> {
        let inner = &self.inner;
        let (server, holder) = inner.own_credentials(asker, server, shared)?;
        inner.store.drop_sealed_of(&holder, Kind::Secret).await?;
        inner.store.drop_sealed_of(&holder, Kind::Grant).await?;
        inner.renew_access(&holder);
        inner
            .note_action(asker, "credentials_deleted", server.name.as_str())
            .await;
        Ok(())
    }

    /// What the asker has for which servers, and, for an admin, what the workspace has. Names only.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn list_credentials(
        &self,
        asker: &Asker,
    ) -> Result<Vec<CredentialView>, BrokerError> {
        let who = &asker.principal;
        let policy = self.inner.policy.now();
        let rows = self.inner.store.sealed_shown(&who.workspace, &who.user);
        let mut views: Vec<CredentialView> = Vec::new();
        for row in rows.await? {
            let holder = &row.place.holder;
            let visible = policy.sees_server(who, holder.server.as_str());
            if visible && (holder.user.is_some() || who.oversees()) {
                add(&mut views, &row);
            }
        }
        Ok(views)
    }

    /// A link by which the asker grants the bridge access to a server as the asker.
    ///
    /// # Errors
    /// `server_not_found`, `forbidden`, `conflict` where nothing can be granted.
    #[expect(clippy::unused_async, reason = "every operation is awaited alike")]
    pub async fn authorize_server(
        &self,
        asker: &Asker,
        server: &str,
        shared: bool,
    ) -> Result<GrantLink, BrokerError> {
        let (server, holder) = self.inner.own_credentials(asker, server, shared)?;
        let whose = (&holder, &asker.principal.user);
        let (url, until) = self.inner.vault.grant_link(&server, whose, None)?;
        Ok(GrantLink {
            url,
            expires_at: rfc3339(until),
        })
    }

    /// What the holder of a link is asked. `signed_in`: who uses the browser, when that is known.
    ///
    /// # Errors
    /// `invalid_request` for a link that is not good, `forbidden` for another user's.
    #[expect(clippy::unused_async, reason = "every operation is awaited alike")]
    pub async fn grant_question(
        &self,
        ticket: &str,
        signed_in: Option<&UserId>,
    ) -> Result<GrantQuestion, BrokerError> {
        let (holder, user, server) = self.inner.ticket_holder(ticket, signed_in)?;
        Ok(GrantQuestion {
            server: holder.server.to_string(),
            address: destination(&server)?,
            workspace: holder.workspace.to_string(),
            user: user.to_string(),
            shared: holder.user.is_none(),
        })
    }

    /// The person agreed: finds the issuer, and says where the browser goes.
    ///
    /// # Errors
    /// As [`Broker::grant_question`]; `upstream_unreachable`, `upstream_protocol_error`, `upstream_needs_auth`.
    pub async fn begin_grant(
        &self,
        ticket: &str,
        signed_in: Option<&UserId>,
    ) -> Result<GrantBegun, BrokerError> {
        let (_, _, server) = self.inner.ticket_holder(ticket, signed_in)?;
        let Begun { authorize, browser } = self.inner.vault.begin(ticket, &server).await?;
        Ok(GrantBegun { authorize, browser })
    }

    /// The browser came back: the code is redeemed and the grant kept. Answers the server's name.
    ///
    /// # Errors
    /// `invalid_request`, `forbidden`, `upstream_needs_auth`, `upstream_unreachable`, `upstream_protocol_error`.
    pub async fn finish_grant(
        &self,
        returned: GrantReturned,
        signed_in: Option<&UserId>,
    ) -> Result<String, BrokerError> {
        let inner = &self.inner;
        let returned = Returned {
            state: returned.state,
            code: returned.code,
            iss: returned.iss,
            error: returned.error,
            browser: returned.browser,
            user: signed_in.cloned(),
        };
        let server_of = |holder: &Holder| inner.registry.get(&holder.workspace, &holder.server);
        let (holder, user) = inner.vault.finish(returned, server_of).await?;
        inner.renew_access(&holder);
        inner.note_grant(&holder, user).await;
        tracing::info!(vault.server = %holder.server, "access was granted");
        Ok(holder.server.to_string())
    }
}

impl Inner {
    /// The server, and whose credentials are meant.
    fn own_credentials(
        &self,
        asker: &Asker,
        server: &str,
        shared: bool,
    ) -> Result<(Arc<Server>, Holder), BrokerError> {
        let who = &asker.principal;
        let server = self.server_or_fault(asker, server)?;
        if shared {
            policy::require_admin(who)?;
        } else {
            // A key that was narrowed by scopes brings no credentials, as it makes no agents.
            policy::require_manager(who, &ANY_ROLE)?;
        }
        let holder = Holder {
            workspace: who.workspace.clone(),
            server: server.name.clone(),
            user: (!shared).then(|| who.user.clone()),
        };
        Ok((server, holder))
    }

    /// Whose link it is, and the server as it is now.
    fn ticket_holder(
        &self,
        ticket: &str,
        signed_in: Option<&UserId>,
    ) -> Result<(Holder, UserId, Arc<Server>), BrokerError> {
        let (holder, user) = self.vault.holder_of(ticket)?;
        if signed_in.is_some_and(|signed_in| *signed_in != user) {
            return Err(Fault::new(
                ErrorCode::Forbidden,
                "this link was given to another user",
            ));
        }
        let server = self.registry.get(&holder.workspace, &holder.server);
        let server = server
            .ok_or_else(|| Fault::new(ErrorCode::ServerNotFound, "there is no such server"))?;
        Ok((holder, user, server))
    }

    /// A browser has no key; the act is the user's who was given the link.
    async fn note_grant(&self, holder: &Holder, user: UserId) {
        let action = Action {
            id: format!("act_{}", uuid::Uuid::now_v7()),
            workspace: holder.workspace.clone(),
            user,
            key_id: "browser".to_owned(),
            action: "access_granted".to_owned(),
            target: holder.server.to_string(),
            trace_id: String::new(),
            created_at: Utc::now(),
        };
        if let Err(error) = self.store.add_action(&action).await {
            tracing::error!(error = %error, "a grant could not be written down");
        }
    }

    /// Sessions that hold what is no longer so make room for new ones.
    fn renew_access(&self, holder: &Holder) {
        self.vault.forget(holder);
        let (workspace, server) = (&holder.workspace, &holder.server);
        match &holder.user {
            Some(user) => self.sessions.retire_user((workspace, server), user),
            None => self.sessions.retire(workspace, server),
        }
    }
}

fn check_secrets(secrets: &BTreeMap<String, SecretString>) -> Result<(), BrokerError> {
    let mut errors = Vec::new();
    let mut complain =
        |pointer: String, detail: String| errors.push(PointerDetail { pointer, detail });
    if secrets.is_empty() || secrets.len() > MAX_SECRETS {
        let detail = format!("must hold 1 to {MAX_SECRETS} secrets");
        complain("/secrets".to_owned(), detail);
    }
    for (name, value) in secrets {
        let value = value.expose_secret();
        let pointer = format!("/secrets/{}", name.replace('~', "~0").replace('/', "~1"));
        if !is_secret_name(name) {
            complain(pointer, "is no name of a secret".to_owned());
        } else if value.is_empty() || value.len() > MAX_SECRET_BYTES {
            complain(pointer, format!("must have 1 to {MAX_SECRET_BYTES} bytes"));
        } else if value.chars().any(|c| c == '\0' || c == '\r' || c == '\n') {
            complain(pointer, "holds a line end or a NUL".to_owned());
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(refused(errors))
    }
}
