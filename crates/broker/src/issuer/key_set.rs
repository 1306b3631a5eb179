//! The issuer's public keys: fetched when first needed, kept for a while, fetched again for a key nobody knows.
//!
//! One fetch at a time, never two close together: whoever sends tokens of unknown keys reaches the bridge and not
//! the issuer. While the issuer is away the keys it last told are good, for a time that is bounded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::OutboundPolicy;
use transports::fetch::{FetchBounds, fetch};
use url::Url;

/// Keys older than this are fetched again when one is needed: a key the issuer withdrew ends by then.
const FRESH_FOR: Duration = Duration::from_mins(5);
/// Keys that cannot be fetched again are good for so long. Tokens rarely live longer, and new ones need the issuer.
const KEPT_FOR: Duration = Duration::from_hours(1);
/// Between two fetches, whatever is asked for meanwhile.
const PAUSE: Duration = Duration::from_secs(5);
/// Largest key set; a key with its certificates is a few KiB.
const MAX_BYTES: usize = 256 * 1024;
/// Keys kept of it; issuers have two to four.
const MAX_KEYS: usize = 64;
/// How long a fetch may take; whoever waits for it waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// One public key.
struct Key {
    kid: Option<String>,
    /// Only for this one, when the issuer says so.
    algorithm: Option<Algorithm>,
    decodes: Arc<DecodingKey>,
}

/// What the issuer last told.
struct Told {
    keys: Vec<Key>,
    at: Instant,
}

/// The public keys of one issuer.
pub(super) struct KeySet {
    desk: Arc<Desk>,
    /// Whose the fetches are: a request that is given up must not take the fetch with it that others wait for.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What is known, and how more is learnt.
struct Desk {
    url: Url,
    told: Mutex<Option<Arc<Told>>>,
    /// When it was last asked, answered or not; locked while it is, so that one asks for all.
    asked: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySet({})", self.desk.url)
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Nothing fetched yet.
    pub(super) fn new(url: Url, (tasks, stop): (TaskTracker, CancellationToken)) -> Self {
        let desk = Desk {
            url,
            told: Mutex::default(),
            asked: Arc::default(),
        };
        Self {
            desk: Arc::new(desk),
            tasks,
            stop,
        }
    }

    /// The key of this id for this algorithm. Without an id, the only key there is for it.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<Arc<DecodingKey>> {
        let told = self.desk.told();
        let age = told.as_ref().map(|told| told.at.elapsed());
        let known = told.and_then(|told| told.find(kid, algorithm));
        let young = |bound| age.is_some_and(|age| age < bound);
        match known {
            Some(known) if young(FRESH_FOR) => return Some(known),
            Some(known) if young(KEPT_FOR) => {
                // Whoever comes first asks anew; the others go on with what is known.
                let Ok(asked) = Arc::clone(&self.desk.asked).try_lock_owned() else {
                    return Some(known);
                };
                self.ask_anew(asked).await;
            }
            _ => {
                self.ask_anew(Arc::clone(&self.desk.asked).lock_owned().await)
                    .await;
            }
        }
        let told = self.desk.told();
        let told = told.filter(|told| told.at.elapsed() < KEPT_FOR)?;
        told.find(kid, algorithm)
    }

    /// Fetches the set, unless that was done just now.
    async fn ask_anew(&self, mut asked: OwnedMutexGuard<Option<Instant>>) {
        if asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        *asked = Some(Instant::now());
        let (desk, stop) = (Arc::clone(&self.desk), self.stop.clone());
        let fetching = self.tasks.spawn(async move {
            if let Some(fetched) = stop.run_until_cancelled(desk.fetch()).await {
                desk.learn(fetched);
            }
            drop(asked);
        });
        // It never panics, and is aborted only with the process.
        let _ = fetching.await;
    }
}

impl Desk {
    fn told(&self) -> Option<Arc<Told>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }

    /// What could not be fetched changes nothing: the keys told before are good until they are too old.
    fn learn(&self, fetched: Result<Told, FetchFailed>) {
        match fetched {
            Ok(told) => {
                *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(told));
            }
            Err(detail) => {
                tracing::warn!(error = %detail, "the issuer's keys could not be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<Told, FetchFailed> {
        // The address stands in the admin's own file; what it redirects to does not, and is not followed.
        let policy = OutboundPolicy {
            allow_private: true,
            ..OutboundPolicy::default()
        };
        let bounds = FetchBounds {
            body_bytes: MAX_BYTES,
            timeout: PATIENCE,
        };
        let json = HeaderValue::from_static("application/json");
        let head = HeaderMap::from_iter([(ACCEPT, json)]);
        let asked = (head, Bytes::new());
        let answer = fetch((Method::GET, &self.url), asked, &policy, bounds).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchFailed::Status(answer.status().as_u16()));
        }
        let document: Document =
            serde_json::from_slice(answer.body()).map_err(|_| FetchFailed::Unreadable)?;
        let keys: Vec<Key> = document
            .keys
            .into_iter()
            .filter_map(Key::read)
            .take(MAX_KEYS)
            .collect();
        if keys.is_empty() {
            return Err(FetchFailed::Unreadable);
        }
        Ok(Told {
            keys,
            at: Instant::now(),
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum FetchFailed {
    #[error(transparent)]
    Fetch(#[from] transports::fetch::FetchError),
    /// A redirect among them.
    #[error("the address of the keys answered HTTP {0}")]
    Status(u16),
    #[error("what came is no set of usable public keys")]
    Unreadable,
}

impl Told {
    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let fits = |key: &&Key| {
            key.decodes.family() == algorithm.family()
                && key.algorithm.is_none_or(|only| only == algorithm)
        };
        let mut fitting = self.keys.iter().filter(fits);
        let found = if let Some(kid) = kid {
            fitting.find(|key| key.kid.as_deref() == Some(kid))?
        } else {
            let only = fitting.next()?;
            if fitting.next().is_some() {
                return None;
            }
            only
        };
        Some(Arc::clone(&found.decodes))
    }
}

impl Key {
    /// A key for verifying; `None` for one of another use, a symmetric one, or one of a kind not known here.
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        let for_signatures = common
            .public_key_use
            .as_ref()
            .is_none_or(|used| *used == PublicKeyUse::Signature);
        let for_verifying = common
            .key_operations
            .as_ref()
            .is_none_or(|allowed| allowed.contains(&KeyOperations::Verify));
        let algorithm = match common.key_algorithm {
            Some(named) => Some(Algorithm::try_from(named).ok()?),
            None => None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let asymmetric = key.family() != AlgorithmFamily::Hmac;
        (for_signatures && for_verifying && asymmetric).then(|| Self {
            kid: common.key_id.clone(),
            algorithm,
            decodes: Arc::new(key),
        })
    }
}
