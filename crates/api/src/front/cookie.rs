//! The cookie of a login: its name, its attributes, and finding it among others. Knows no login.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Over https: the prefix makes browsers refuse a cookie another host or path set.
const SECURE_NAME: &str = "__Host-paperbot";
/// Over http, which is loopback alone.
const PLAIN_NAME: &str = "paperbot_login";

/// How people reach the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieKind {
    /// By https.
    Secure,
    /// By http.
    Plain,
}

impl CookieKind {
    fn name(self) -> &'static str {
        match self {
            Self::Secure => SECURE_NAME,
            Self::Plain => PLAIN_NAME,
        }
    }
}

/// The one cookie of this name; none when there are two, for one of them is not ours.
pub(crate) fn read(headers: &HeaderMap, kind: CookieKind) -> Option<&str> {
    let values = headers.get_all(COOKIE).iter();
    let pairs = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut found = pairs.filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == kind.name()).then_some(value)
    });
    let only = found.next().filter(|value| !value.is_empty())?;
    found.next().is_none().then_some(only)
}

/// What sets it, for so long.
pub(crate) fn set(kind: CookieKind, value: &str, ttl: Duration) -> Option<HeaderValue> {
    let secure = match kind {
        CookieKind::Secure => "; Secure",
        CookieKind::Plain => "",
    };
    let (name, seconds) = (kind.name(), ttl.as_secs());
    let text =
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}; Max-Age={seconds}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What removes it.
pub(crate) fn remove(kind: CookieKind) -> Option<HeaderValue> {
    set(kind, "", Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(COOKIE, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_cookie_is_found_among_others_and_never_guessed_between_two() {
        let plain =
            |values: &[&'static str]| read(&headers(values), CookieKind::Plain).map(str::to_owned);
        assert_eq!(
            plain(&["a=1; paperbot_login=x_y; b=2"]).as_deref(),
            Some("x_y")
        );
        assert_eq!(
            plain(&["a=1", "paperbot_login=x_y"]).as_deref(),
            Some("x_y")
        );
        assert_eq!(plain(&["paperbot_login=x; paperbot_login=y"]), None);
        assert_eq!(plain(&["paperbot_login="]), None);
        assert_eq!(plain(&["__Host-paperbot=x"]), None);
    }

    #[test]
    fn over_https_it_belongs_to_this_host_alone() {
        let set = set(CookieKind::Secure, "x", Duration::from_mins(1)).unwrap();
        assert!(set.is_sensitive());
        assert_eq!(
            set,
            "__Host-paperbot=x; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=60"
        );
    }
}
