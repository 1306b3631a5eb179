//! What each user, workspace and server has taken: places in flight, bytes in flight, tokens. Memory only, under
//! one lock of the gate; knows nothing of calls.

use std::hash::Hash;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt as _};
use sessions::{UserId, WorkspaceId};
use tokio::time::Instant;

use super::ServerKey;
use super::rates::{Bucket, RateStanding, Ticks, untouched};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::limits::{CallLimits, Rate};

/// Accounts of one sort. Only who was busy within the last window of its bucket has one, so this many at once means
/// that something invents users; then newcomers are refused.
const MAX_ACCOUNTS: usize = 65_536;
/// Accounts before the first look for those that can go: fewer are not worth it.
const FIRST_SWEEP: usize = 1024;
/// Wait told to who found no place: places come and go within milliseconds.
const PLACE_WAIT: Duration = Duration::from_secs(1);
/// A user whose calls are refused for being too many has one such refusal audited in so long.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// What one of them has taken.
#[derive(Debug)]
struct Account {
    in_flight: usize,
    bytes: usize,
    bucket: Option<Bucket>,
    refusal_told: Option<Instant>,
}

impl Account {
    fn is_idle(&self) -> bool {
        let told = self.refusal_told;
        self.in_flight == 0
            && self.bucket.as_ref().is_none_or(Bucket::is_full)
            && told.is_none_or(|at| at.elapsed() >= REFUSAL_PAUSE)
    }
}

/// Accounts of one sort.
#[derive(Debug)]
struct Accounts<K> {
    by: HashMap<K, Account>,
    rate: Option<Rate>,
    sweep_at: usize,
}

impl<K: Hash + Eq + Clone> Accounts<K> {
    fn new(rate: Option<Rate>) -> Self {
        Self {
            by: HashMap::new(),
            rate,
            sweep_at: FIRST_SWEEP,
        }
    }

    fn of(&mut self, key: &K, ticks: Ticks) -> Result<&mut Account, BrokerError> {
        if !self.by.contains_key(key) {
            self.make_room()?;
            let account = Account {
                in_flight: 0,
                bytes: 0,
                bucket: self.rate.map(|rate| Bucket::new(rate, ticks)),
                refusal_told: None,
            };
            self.by.insert(key.clone(), account);
        }
        // Put there just above, at the latest.
        self.by.get_mut(key).ok_or_else(crowded)
    }

    /// Forgets who has nothing and would start with a full bucket anyway.
    fn make_room(&mut self) -> Result<(), BrokerError> {
        if self.by.len() < self.sweep_at {
            return Ok(());
        }
        self.by.retain(|_, account| !account.is_idle());
        self.sweep_at = (self.by.len() * 2).clamp(FIRST_SWEEP, MAX_ACCOUNTS);
        if self.by.len() < MAX_ACCOUNTS {
            Ok(())
        } else {
            Err(crowded())
        }
    }

    fn leave(&mut self, key: &K, bytes: usize) {
        let Some(account) = self.by.get_mut(key) else {
            return;
        };
        account.in_flight -= 1;
        account.bytes -= bytes;
        if account.bucket.is_none() && account.is_idle() {
            self.by.remove(key);
        }
    }

    fn standing(&self, key: &K, scope: &'static str) -> Option<RateStanding> {
        let rate = self.rate?;
        let bucket = self.by.get(key).and_then(|one| one.bucket.as_ref());
        Some(bucket.map_or_else(|| untouched(rate, scope), |bucket| bucket.standing(scope)))
    }
}

/// Who a call is counted against.
#[derive(Debug, Clone)]
pub(super) struct Payers {
    pub(super) user: UserId,
    pub(super) workspace: WorkspaceId,
    pub(super) server: ServerKey,
    pub(super) bytes: usize,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Books {
    limits: CallLimits,
    ticks: Ticks,
    all: usize,
    global: Option<Bucket>,
    users: Accounts<UserId>,
    workspaces: Accounts<WorkspaceId>,
    servers: Accounts<ServerKey>,
}

impl Books {
    pub(super) fn new(limits: CallLimits) -> Self {
        let ticks = Ticks::start();
        let rates = limits.rates;
        Self {
            limits,
            ticks,
            all: 0,
            global: rates.global.map(|rate| Bucket::new(rate, ticks)),
            users: Accounts::new(rates.user),
            workspaces: Accounts::new(rates.workspace_share()),
            servers: Accounts::new(rates.server),
        }
    }

    /// Takes a place and a token everywhere, or says what is missing. Places are looked at first, since a token
    /// that was taken does not come back at once; the user's token before those that others share, so that a flood
    /// uses up its own.
    pub(super) fn enter(&mut self, payers: &Payers) -> Result<(), BrokerError> {
        let (limits, ticks) = (self.limits, self.ticks);
        if self.all >= limits.in_flight {
            return Err(refused(
                ErrorCode::Overloaded,
                "too many calls are in flight",
            ));
        }
        let user = self.users.of(&payers.user, ticks)?;
        let workspace = self.workspaces.of(&payers.workspace, ticks)?;
        let server = self.servers.of(&payers.server, ticks)?;
        if user.in_flight >= limits.in_flight_per_user {
            let detail = format!(
                "{} calls of this user are in flight already",
                user.in_flight
            );
            return Err(refused(ErrorCode::RateLimited, detail));
        }
        // One request always passes, however large: its size has a bound of its own.
        if user.in_flight > 0 && user.bytes + payers.bytes > limits.bytes_in_flight_per_user {
            let detail = "the calls of this user that are in flight hold too many bytes";
            return Err(refused(ErrorCode::QuotaExceeded, detail));
        }
        if workspace.in_flight >= limits.in_flight_per_workspace {
            let detail = "too many calls of this workspace are in flight";
            return Err(refused(ErrorCode::QuotaExceeded, detail));
        }
        if server.in_flight >= limits.in_flight_per_server {
            let detail = "too many calls are in flight at this server";
            return Err(refused(ErrorCode::QuotaExceeded, detail));
        }
        for (whose, bucket) in [
            ("this user's", &mut user.bucket),
            ("this workspace's", &mut workspace.bucket),
            ("this server's", &mut server.bucket),
            ("the bridge's", &mut self.global),
        ] {
            if let Some(Err(wait)) = bucket.as_mut().map(Bucket::take) {
                let detail = format!("{whose} rate of calls is used up");
                let mut fault = Fault::new(ErrorCode::RateLimited, detail);
                fault.retry_after = Some(wait);
                return Err(fault);
            }
        }
        for account in [user, workspace, server] {
            account.in_flight += 1;
            account.bytes += payers.bytes;
        }
        self.all += 1;
        Ok(())
    }

    pub(super) fn leave(&mut self, payers: &Payers) {
        self.all -= 1;
        self.users.leave(&payers.user, payers.bytes);
        self.workspaces.leave(&payers.workspace, payers.bytes);
        self.servers.leave(&payers.server, payers.bytes);
    }

    /// Whether the refusal of this user is to be audited: a flood is not to fill the ledger.
    pub(super) fn tells_refusal(&mut self, user: &UserId) -> bool {
        let Ok(account) = self.users.of(user, self.ticks) else {
            return false;
        };
        let pause = account.refusal_told.map(|at| at.elapsed());
        let tells = pause.is_none_or(|pause| pause >= REFUSAL_PAUSE);
        if tells {
            account.refusal_told = Some(Instant::now());
        }
        tells
    }

    pub(super) fn standings(
        &self,
        user: &UserId,
        workspace: &WorkspaceId,
    ) -> [Option<RateStanding>; 2] {
        [
            self.users.standing(user, "user"),
            self.workspaces.standing(workspace, "workspace"),
        ]
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.all
    }

    #[cfg(test)]
    pub(super) fn accounts(&self) -> usize {
        self.users.by.len() + self.workspaces.by.len() + self.servers.by.len()
    }
}

fn crowded() -> BrokerError {
    refused(ErrorCode::Overloaded, "too many users are busy at once")
}

fn refused(code: ErrorCode, detail: impl Into<String>) -> BrokerError {
    let mut fault = Fault::new(code, detail);
    fault.retry_after = Some(PLACE_WAIT);
    fault
}
