//! The guards of a call that only reads, and nothing else of it: pins, policy, limits, its row with its place in the
//! audit chain. What `make bench` measures; never part of a program that is given out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use transports::ServerSpec;

use super::find::Found;
use super::outcome::Ended;
use super::ready::intent;
use super::verdict::{check_verdict, decided};
use crate::arguments::Arguments;
use crate::asker::Asker;
use crate::definition::Definition;
use crate::error::BrokerError;
use crate::operations::calls::{CallTool, ToolResult};
use crate::operations::{Broker, Inner};
use crate::policy::{Decision, Subject};

/// Largest result here.
const RESULT_BYTES: usize = 1024 * 1024;
/// How long a call may wait for room in the ledger's queue.
const WAIT: Duration = Duration::from_secs(5);

/// One call's guards, ready to be gone through any number of times.
#[derive(Debug)]
pub struct Guards {
    broker: Broker,
    asker: Asker,
    request: CallTool,
    found: Found,
    arguments: Arguments,
    ended: Ended,
}

impl Guards {
    /// Of calls like this one of a server, by this asker, answered with this result.
    ///
    /// # Errors
    /// As the checks of a call.
    pub async fn of(
        broker: &Broker,
        server: (Definition, ServerSpec),
        (asker, request): (Asker, CallTool),
        result: Box<RawValue>,
    ) -> Result<Self, BrokerError> {
        let inner = &broker.inner;
        let workspace = &asker.principal.workspace;
        inner.registry.put_in_process(workspace, server);
        let found = inner.find_tool(&asker, &request, Instant::now() + WAIT);
        let found = found.await?;
        let arguments = Arguments::read(request.arguments.clone())?;
        let result = ToolResult::read(result, RESULT_BYTES)?;
        Ok(Self {
            broker: broker.clone(),
            asker,
            request,
            found,
            arguments,
            ended: Ended::new(Ok(result), Duration::from_millis(1)),
        })
    }

    /// Goes through all of them once, as a call does, and gives back what it took.
    ///
    /// # Errors
    /// The first guard's that says no.
    pub async fn pass(&self) -> Result<(), BrokerError> {
        let inner = &self.broker.inner;
        let (asker, found) = (&self.asker, &self.found);
        self.is_shown(inner);
        let user = &asker.principal.user;
        inner.pins.check(&found.server, user, &found.tool).await?;
        let verdict = decided(inner, asker, found, &self.arguments);
        check_verdict(found, &verdict, &self.request)?;
        let intent = intent(asker, &self.request, found, &self.arguments);
        let bytes = self.arguments.raw.get().len();
        let permit = inner.gate.enter(&asker.principal, &found.server, bytes)?;
        inner.await_room(Instant::now() + WAIT).await?;
        let of = (&Arc::new(intent), None);
        inner.ledger.record(of, &self.ended, None);
        drop(permit);
        let who = &asker.principal;
        std::hint::black_box(self.broker.rate_standings(&who.user, &who.workspace));
        Ok(())
    }

    /// The part of finding a tool that is policy's.
    fn is_shown(&self, inner: &Inner) {
        let (who, found) = (&self.asker.principal, &self.found);
        let subject = Subject {
            reference: &found.tool.reference,
            hints: inner.pins.hints(&found.server, &who.user, &found.tool),
            arguments: None,
        };
        let decision = inner.policy.now().decide(who, subject).decision;
        std::hint::black_box(decision == Decision::Hide);
    }

    /// Until every row is in the store.
    pub async fn written(&self) {
        self.broker.inner.store.flush().await;
    }
}
