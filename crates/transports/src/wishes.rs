//! What the users of one connection want to be told: resources to watch, and how loud the server may log.
//!
//! Sends nothing. Who speaks to the server reads it: to say it, and to say it again to one that forgot.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::RequestError;
use crate::wire::{LogLevel, Params, Request};

/// Resources watched over one connection; each is said again whenever a session is opened anew.
pub(crate) const MAX_RESOURCES: usize = 1024;

/// What is wanted. Shared by a connection and whoever speaks for it.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// One more than the level's place in [`LogLevel::ALL`]; 0 for none. Read with every request.
    log_level: AtomicU8,
    wanted: Mutex<Wanted>,
    changed: Notify,
}

/// The watched resources at one moment.
#[derive(Debug, Default, Clone)]
pub(crate) struct Wanted {
    pub(crate) resources: BTreeSet<String>,
    /// Counts the changes.
    pub(crate) version: u64,
}

impl Wishes {
    /// The least level the server may log at.
    pub(crate) fn log_level(&self) -> Option<LogLevel> {
        let place = usize::from(self.log_level.load(Ordering::Relaxed)).checked_sub(1)?;
        LogLevel::ALL.get(place).copied()
    }

    pub(crate) fn set_log_level(&self, level: LogLevel) {
        let place = LogLevel::ALL.iter().position(|known| *known == level);
        let place = place.and_then(|place| u8::try_from(place + 1).ok());
        self.log_level
            .store(place.unwrap_or_default(), Ordering::Relaxed);
    }

    /// What is wanted now.
    pub(crate) fn wanted(&self) -> Wanted {
        self.lock().clone()
    }

    /// The number of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Watches one resource more: the number of the last change, and whether it is this one.
    ///
    /// # Errors
    /// [`RequestError::Overloaded`] at the bound.
    pub(crate) fn watch(&self, uri: &str) -> Result<(u64, bool), RequestError> {
        let mut wanted = self.lock();
        let is_new = !wanted.resources.contains(uri);
        if is_new {
            if wanted.resources.len() >= MAX_RESOURCES {
                return Err(RequestError::Overloaded {
                    limit: MAX_RESOURCES,
                });
            }
            wanted.resources.insert(uri.to_owned());
            self.count(&mut wanted);
        }
        Ok((wanted.version, is_new))
    }

    /// Watches one resource less.
    pub(crate) fn unwatch(&self, uri: &str) {
        let mut wanted = self.lock();
        if wanted.resources.remove(uri) {
            self.count(&mut wanted);
        }
    }

    /// Resolves when the resources changed since the last time it did. For one waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn count(&self, wanted: &mut Wanted) {
        wanted.version += 1;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a legacy server to watch a resource, or to watch it no more.
pub(crate) fn watch_request(watch: bool, uri: &str) -> Request {
    let method = if watch {
        "resources/subscribe"
    } else {
        "resources/unsubscribe"
    };
    Request {
        params: Params::default().with_text("uri", uri),
        // Said twice it means the same.
        repeatable: true,
        ..Request::new(method, Duration::ZERO)
    }
}

/// Tells a legacy server how loud it may log.
pub(crate) fn log_level_request(level: LogLevel) -> Request {
    Request {
        params: Params::default().with_text("level", level.as_str()),
        repeatable: true,
        ..Request::new("logging/setLevel", Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_remembered_and_none_is_none() {
        let wishes = Wishes::default();
        assert_eq!(wishes.log_level(), None);
        for level in LogLevel::ALL {
            wishes.set_log_level(level);
            assert_eq!(wishes.log_level(), Some(level));
        }
    }

    #[test]
    fn a_resource_is_watched_once_and_the_number_of_them_is_bounded() {
        let wishes = Wishes::default();
        assert_eq!(wishes.watch("a").unwrap(), (1, true));
        assert_eq!(wishes.watch("a").unwrap(), (1, false));
        wishes.unwatch("nothing");
        assert_eq!(wishes.version(), 1);
        for number in 1..MAX_RESOURCES {
            wishes.watch(&number.to_string()).unwrap();
        }
        assert!(matches!(
            wishes.watch("b"),
            Err(RequestError::Overloaded { .. })
        ));
        wishes.unwatch("a");
        assert!(wishes.watch("b").is_ok());
    }
}
