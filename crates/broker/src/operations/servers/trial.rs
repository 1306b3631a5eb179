//! `test_server`: opens a server apart from its sessions, lists it, and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use sessions::{Caller, Isolation, Lane, Target};
use tokio::time::Instant;
use transports::ServerName;

use super::{TestReport, check_author};
use crate::agents::Owner;
use crate::asker::Asker;
use crate::catalogue::era_name;
use crate::definition::{Checked, Definition, Lead};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::operations::{Broker, Inner};
use crate::policy;
use crate::principal::Role;
use crate::registry::{Server, Source};
use crate::upstream_fault::Upstream;

/// How long a tested server may take to answer and list.
const TEST_WAIT: Duration = Duration::from_secs(30);

impl Broker {
    /// Opens a saved server apart from its sessions and lists it; nothing is called. `definition` tests
    /// one that is not saved, behind the same gate as saving.
    ///
    /// # Errors
    /// `forbidden`, `server_not_found`, `invalid_arguments`. A server that does not answer is a report, not an error.
    pub async fn test_server(
        &self,
        asker: &Asker,
        name: &str,
        definition: Option<Definition>,
    ) -> Result<TestReport, BrokerError> {
        let inner = &self.inner;
        policy::require_manager(&asker.principal, &[Role::Operator, Role::Admin])?;
        let server = if let Some(definition) = definition {
            Arc::new(inner.unsaved(asker, name, definition)?)
        } else {
            let server = inner.server_or_fault(asker, name)?;
            check_author(asker, &server.definition)?;
            server
        };
        let started = Instant::now();
        let tested = match inner.vault.personal(&server, &asker.principal.user).await {
            Ok(own) => {
                let upstream = Upstream {
                    server: name,
                    redactions: own.redactions(),
                };
                inner.try_out(asker, own.target()?.clone(), upstream).await
            }
            Err(fault) => Err(fault),
        };
        let mut report = tested.unwrap_or_else(|fault| TestReport {
            fault: Some(fault),
            ..TestReport::default()
        });
        report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }
}

impl Inner {
    /// A server that stands nowhere, for trying it out.
    fn unsaved(
        &self,
        asker: &Asker,
        name: &str,
        definition: Definition,
    ) -> Result<Server, BrokerError> {
        let name = ServerName::new(name)
            .map_err(|error| Fault::new(ErrorCode::InvalidArguments, error.to_string()))?;
        let checked = self.pass_gate(asker, &name, &definition)?;
        let who = &asker.principal;
        let owner = Owner::new(&who.workspace, &who.user);
        let target = self.agents.trial_target(&owner, &name, &checked)?;
        Ok(Server {
            name,
            workspace: who.workspace.clone(),
            version: 0,
            source: Source::Api,
            definition,
            checked: Ok(Checked {
                lead: Lead::Server(target),
                ..checked
            }),
            created_at: None,
            created_by: None,
            via: None,
        })
    }

    /// A session of its own, closed again: what is saved and what is in use stay as they are.
    async fn try_out(
        &self,
        asker: &Asker,
        target: Target,
        upstream: Upstream<'_>,
    ) -> Result<TestReport, BrokerError> {
        let deadline = Instant::now() + TEST_WAIT;
        let target = Target {
            isolation: Isolation::Call,
            ..target
        };
        let caller = Caller {
            user: asker.principal.user.clone(),
            workspace: asker.principal.workspace.clone(),
            lane: Lane::default(),
        };
        let lease = self.sessions.acquire(&caller, &target, deadline).await;
        let lease = lease.map_err(|error| upstream.not_opened(&error))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let listing = Box::pin(catalog::listing::fetch(&lease, left)).await;
        let listing = listing.map_err(|error| upstream.not_listed(&error))?;
        let peer = lease.peer();
        Ok(TestReport {
            ok: true,
            era: Some(era_name(peer.era)),
            protocol_version: Some(peer.protocol_version.clone()),
            transport: Some(peer.transport),
            tools: listing.tools.len(),
            resources: listing.resources.len(),
            templates: listing.templates.len(),
            prompts: listing.prompts.len(),
            duration_ms: 0,
            fault: None,
        })
    }
}
