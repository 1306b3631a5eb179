//! The legacy session with the bridge: its id, its revision, and the lines that opened it, so that it
//! can be opened again. A modern client has none.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// What a request has to say about the session it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Rises each time the session is opened; tells a session that is gone from a newer one.
    pub(crate) generation: u64,
    /// `Mcp-Session-Id`, if the bridge gave one.
    pub(crate) id: Option<String>,
    /// The revision agreed on.
    pub(crate) version: Option<String>,
}

/// The session as it stands.
#[derive(Debug, Default)]
pub(crate) struct Session {
    state: Mutex<State>,
    /// Held while the session is opened again, so that it is opened once however many requests found it gone.
    pub(crate) renewing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    view: View,
    opening: Opening,
}

/// The client's own lines that open a session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opening {
    /// `initialize`.
    pub(crate) initialize: Option<Bytes>,
    /// `notifications/initialized`.
    pub(crate) initialized: Option<Bytes>,
}

impl Session {
    /// What to say now.
    pub(crate) fn view(&self) -> View {
        self.locked().view.clone()
    }

    /// How it was opened.
    pub(crate) fn opening(&self) -> Opening {
        self.locked().opening.clone()
    }

    /// A session was opened, the first time or again.
    pub(crate) fn opened(&self, initialize: Bytes, id: Option<String>, version: Option<String>) {
        let mut state = self.locked();
        state.view.generation += 1;
        state.view.id = id;
        state.view.version = version;
        state.opening.initialize = Some(initialize);
    }

    /// The client begins anew; what it had is forgotten.
    pub(crate) fn forget(&self) -> View {
        let mut state = self.locked();
        state.opening = Opening::default();
        let generation = state.view.generation;
        std::mem::replace(
            &mut state.view,
            View {
                generation,
                ..View::default()
            },
        )
    }

    /// The client said it is ready.
    pub(crate) fn ready(&self, initialized: Bytes) {
        self.locked().opening.initialized = Some(initialized);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held; if it did, the state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_opened_again_has_another_generation() {
        let session = Session::default();
        assert_eq!(session.view(), View::default());
        session.opened(Bytes::from_static(b"i"), Some("a".to_owned()), None);
        let first = session.view();
        session.opened(Bytes::from_static(b"i"), Some("b".to_owned()), None);
        assert_ne!(first.generation, session.view().generation);
        assert_eq!(session.forget().id.as_deref(), Some("b"));
        assert_eq!(session.view().id, None);
        assert!(session.opening().initialize.is_none());
    }
}
