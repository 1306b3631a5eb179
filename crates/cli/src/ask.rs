//! One request to the bridge as the verbs put it together. Sends nothing.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

/// For requests the bridge answers from memory or its store.
pub(crate) const SHORT_WAIT: Duration = Duration::from_secs(30);

/// For requests that make the bridge reach a server (open, test, read) under its own deadlines.
pub(crate) const LONG_WAIT: Duration = Duration::from_mins(3);

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The method.
    pub(crate) method: Method,
    /// Below the bridge's address.
    pub(crate) path: String,
    /// In order; names may repeat.
    pub(crate) query: Vec<(&'static str, String)>,
    /// Besides those every request has.
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    /// JSON.
    pub(crate) body: Option<Bytes>,
    /// How long the caller is ready to wait.
    pub(crate) wait: Duration,
}

impl Ask {
    /// A `GET` of `path`.
    #[must_use]
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            wait: SHORT_WAIT,
        }
    }

    /// A `POST` of a JSON document.
    #[must_use]
    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let mut ask = Self::get(path);
        ask.method = Method::POST;
        ask.body = Some(body.into());
        ask
    }

    /// Another method.
    #[must_use]
    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// With a query parameter, if there is a value.
    #[must_use]
    pub(crate) fn query(mut self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        self.query.extend(value.map(|value| (name, value.into())));
        self
    }

    /// With a header, if there is a value.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        self.headers
            .extend(value.map(|value| (Cow::Borrowed(name), value.into())));
        self
    }

    /// With another patience than [`SHORT_WAIT`].
    #[must_use]
    pub(crate) fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Method and path, for `--verbose`.
    #[must_use]
    pub(crate) fn summary(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}
