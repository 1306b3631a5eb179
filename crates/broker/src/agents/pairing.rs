//! Pairing by a short code: an agent without a token asks, a signed-in person confirms, the agent fetches its
//! token. Memory only: a pairing lives ten minutes, and a restart ends it.
//!
//! Whoever starts a pairing has no credential, so all of it is bounded. Codes are short for people's sake; they
//! are guarded by counting wrong ones.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sessions::UserId;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use transports::tunnel::AgentId;

use crate::error::{BrokerError, ErrorCode, Fault};

/// How long a pairing may take.
pub const PAIRING_TTL: Duration = Duration::from_mins(10);
/// Pairings at once; one is some hundred bytes.
const MAX_PAIRINGS: usize = 1000;
/// Pairings begun within a minute, by everybody together.
const MAX_BEGUN_PER_MINUTE: usize = 120;
/// Wrong codes of one person, and of all together, within a minute. With 32^8 codes, 1000 of them live, it takes
/// decades to hit one.
const MAX_WRONG_OWN: usize = 5;
const MAX_WRONG_ALL: usize = 60;
/// The window of both.
const WINDOW: Duration = Duration::from_mins(1);
/// Characters of a code: no two look alike.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// Characters of a code, without the dash in its middle.
const CODE_LENGTH: usize = 8;
/// Random bytes of a poll token.
const POLL_BYTES: usize = 32;

/// What an agent says when it asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// Under which id; minted when `None`.
    pub agent_id: Option<AgentId>,
    /// What people read when they confirm.
    pub label: Option<String>,
}

/// A pairing that was begun.
#[derive(Debug)]
pub struct Begun {
    /// For the person: `ABCD-2345`.
    pub code: String,
    /// For the agent, to ask with; shown this once.
    pub poll_token: SecretString,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// What a person's confirmation gave the agent.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub agent_id: AgentId,
    pub token: SecretString,
}

/// Where a pairing stands.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    Pending,
    Approved(Grant),
    /// Too late, or never begun: nobody can tell which.
    Expired,
}

#[derive(Debug)]
struct Pairing {
    wish: Wish,
    code: String,
    until: Instant,
    grant: Option<Grant>,
}

#[derive(Debug, Default)]
struct Table {
    /// By the digest of the poll token: nothing in memory can be asked with.
    pairings: HashMap<[u8; 32], Pairing>,
    begun: Vec<Instant>,
    wrong: Vec<(UserId, Instant)>,
}

/// The pairings under way.
#[derive(Debug, Default)]
pub(crate) struct Pairings(Mutex<Table>);

impl Pairings {
    fn table(&self) -> MutexGuard<'_, Table> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.expire(Instant::now());
        table
    }

    /// Begins one.
    ///
    /// # Errors
    /// `rate_limited` when too many are under way or were begun lately.
    pub(crate) fn begin(&self, wish: Wish) -> Result<Begun, BrokerError> {
        let mut table = self.table();
        let full = table.pairings.len() >= MAX_PAIRINGS;
        if full || table.begun.len() >= MAX_BEGUN_PER_MINUTE {
            return Err(later("too many agents are being paired"));
        }
        let now = Instant::now();
        table.begun.push(now);
        let code = loop {
            let code = fresh_code();
            if table.pairings.values().all(|one| one.code != code) {
                break code;
            }
        };
        let poll = fresh_poll_token();
        let pairing = Pairing {
            wish,
            code: code.clone(),
            until: now + PAIRING_TTL,
            grant: None,
        };
        table.pairings.insert(digest(&poll), pairing);
        Ok(Begun {
            code: format!("{}-{}", &code[..CODE_LENGTH / 2], &code[CODE_LENGTH / 2..]),
            poll_token: poll.into(),
            expires_at: Utc::now() + PAIRING_TTL,
        })
    }

    /// What the agent behind a code wishes; the code stays as it is.
    ///
    /// # Errors
    /// `agent_not_found` for a code nobody was given; `rate_limited` after too many of those.
    pub(crate) fn wish(&self, user: &UserId, code: &str) -> Result<Wish, BrokerError> {
        let mut table = self.table();
        let own = table.wrong.iter().filter(|(who, _)| who == user).count();
        if own >= MAX_WRONG_OWN || table.wrong.len() >= MAX_WRONG_ALL {
            return Err(later("too many wrong codes"));
        }
        let code = plain(code);
        let open = |one: &&Pairing| one.grant.is_none() && one.code == code;
        if let Some(pairing) = table.pairings.values().find(open) {
            return Ok(pairing.wish.clone());
        }
        table.wrong.push((user.clone(), Instant::now()));
        Err(no_such_code())
    }

    /// Gives the agent behind a code its token.
    ///
    /// # Errors
    /// `agent_not_found` when the code is not open any more.
    pub(crate) fn approve(&self, code: &str, grant: Grant) -> Result<(), BrokerError> {
        let mut table = self.table();
        let code = plain(code);
        let mut all = table.pairings.values_mut();
        let open = all.find(|one| one.grant.is_none() && one.code == code);
        open.ok_or_else(no_such_code)?.grant = Some(grant);
        Ok(())
    }

    /// Where the agent's pairing stands. The token is told as often as it is asked for, until the pairing's end: an
    /// answer may be lost.
    pub(crate) fn standing(&self, poll_token: &str) -> Standing {
        let table = self.table();
        match table.pairings.get(&digest(poll_token)) {
            Some(Pairing {
                grant: Some(grant), ..
            }) => Standing::Approved(grant.clone()),
            Some(_) => Standing::Pending,
            None => Standing::Expired,
        }
    }
}

impl Table {
    fn expire(&mut self, now: Instant) {
        self.pairings.retain(|_, one| one.until > now);
        let recent = |at: &Instant| now.duration_since(*at) < WINDOW;
        self.begun.retain(recent);
        self.wrong.retain(|(_, at)| recent(at));
    }
}

fn later(detail: &str) -> BrokerError {
    let mut fault = Fault::new(ErrorCode::RateLimited, detail);
    fault.retry_after = Some(WINDOW);
    fault
}

fn no_such_code() -> BrokerError {
    let mut fault = Fault::new(ErrorCode::AgentNotFound, "no agent waits with this code");
    fault.hint = Some("codes are good for ten minutes and for one agent".to_owned());
    fault
}

/// As it was given out: without dashes and blanks, in capitals.
fn plain(code: &str) -> String {
    let marks = |c: &char| c.is_ascii_alphanumeric();
    let kept = code.chars().filter(marks).take(CODE_LENGTH + 1);
    kept.map(|c| c.to_ascii_uppercase()).collect()
}

fn fresh_code() -> String {
    let mut bytes = [0_u8; CODE_LENGTH];
    rand::fill(&mut bytes);
    // 256 is a multiple of 32: no letter is likelier than another.
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    bytes.iter().map(letter).collect()
}

fn fresh_poll_token() -> String {
    let mut bytes = [0_u8; POLL_BYTES];
    rand::fill(&mut bytes);
    format!("pair_{}", catalog::Hash(bytes).hex())
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn grant() -> Grant {
        Grant {
            agent_id: AgentId::new("laptop").unwrap(),
            token: "t".to_owned().into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_is_good_once_for_ten_minutes_however_it_is_typed() {
        let pairings = Pairings::default();
        let wish = Wish {
            label: Some("my laptop".to_owned()),
            ..Wish::default()
        };
        let begun = pairings.begin(wish).unwrap();
        let poll = begun.poll_token.expose_secret().to_owned();
        assert!(matches!(pairings.standing(&poll), Standing::Pending));
        let typed = begun.code.to_lowercase().replace('-', " ");
        let shown = pairings.wish(&user("ann"), &typed).unwrap();
        assert_eq!(shown.label.as_deref(), Some("my laptop"));
        pairings.approve(&typed, grant()).unwrap();
        for _ in 0..2 {
            assert!(matches!(pairings.standing(&poll), Standing::Approved(_)));
        }
        let again = pairings.wish(&user("bob"), &begun.code).unwrap_err();
        assert_eq!(again.code, ErrorCode::AgentNotFound);
        assert!(pairings.approve(&begun.code, grant()).is_err());
        tokio::time::advance(PAIRING_TTL).await;
        assert!(matches!(pairings.standing(&poll), Standing::Expired));
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_codes_ends_soon_and_for_each_person_by_itself() {
        let pairings = Pairings::default();
        let open = pairings.begin(Wish::default()).unwrap();
        for _ in 0..MAX_WRONG_OWN {
            let wrong = pairings.wish(&user("eve"), "AAAA-AAAA").unwrap_err();
            assert_eq!(wrong.code, ErrorCode::AgentNotFound);
        }
        let held = pairings.wish(&user("eve"), &open.code).unwrap_err();
        assert_eq!(held.code, ErrorCode::RateLimited);
        assert!(pairings.wish(&user("ann"), &open.code).is_ok());
        tokio::time::advance(WINDOW).await;
        assert!(pairings.wish(&user("eve"), &open.code).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn pairings_are_bounded_in_number_and_in_pace() {
        let pairings = Pairings::default();
        let mut begun = 0;
        loop {
            match pairings.begin(Wish::default()) {
                Ok(_) => begun += 1,
                Err(fault) => {
                    assert_eq!(fault.code, ErrorCode::RateLimited);
                    if begun >= MAX_PAIRINGS {
                        break;
                    }
                    assert_eq!(begun % MAX_BEGUN_PER_MINUTE, 0);
                    tokio::time::advance(WINDOW).await;
                }
            }
        }
        assert_eq!(begun, MAX_PAIRINGS);
        tokio::time::advance(PAIRING_TTL).await;
        assert!(pairings.begin(Wish::default()).is_ok());
    }
}
