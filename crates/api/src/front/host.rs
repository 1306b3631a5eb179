//! Which `Host` and `Origin` a request may carry: the defence against DNS rebinding and foreign pages.

use std::net::SocketAddr;

use broker::ErrorCode;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri};
use url::Url;

use super::cors::Page;
use crate::problem::Refused;

/// Names under which this listener is reached.
#[derive(Debug, Clone)]
pub struct Names {
    /// `host:port` in lower case, and bare hosts where the port is the scheme's own.
    hosts: Vec<String>,
    /// `scheme://host[:port]` of our own pages.
    origins: Vec<String>,
    /// The same of pages the configuration trusts.
    trusted: Vec<String>,
}

impl Names {
    /// The names of a listener.
    #[must_use]
    pub fn new(listen: SocketAddr, public_url: Option<&Url>, trusted_origins: &[String]) -> Self {
        let port = listen.port();
        let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "[::1]"]
            .iter()
            .map(|host| format!("{host}:{port}"))
            .collect();
        hosts.push(listen.to_string());
        // A client leaves out the port of its scheme.
        if port == 80 {
            let bare: Vec<String> = hosts
                .iter()
                .map(|host| host.trim_end_matches(":80").to_owned())
                .collect();
            hosts.extend(bare);
        }
        let mut origins: Vec<String> = hosts.iter().map(|host| format!("http://{host}")).collect();
        if let Some(url) = public_url {
            if let Some(host) = url.host_str() {
                hosts.push(match url.port() {
                    Some(port) => format!("{host}:{port}"),
                    None => host.to_owned(),
                });
                hosts.extend(
                    url.port_or_known_default()
                        .map(|port| format!("{host}:{port}")),
                );
            }
            origins.push(url.origin().ascii_serialization());
        }
        let plain = |origin: &String| origin.trim_end_matches('/').to_ascii_lowercase();
        Self {
            hosts,
            origins,
            trusted: trusted_origins.iter().map(plain).collect(),
        }
    }

    /// Whether pages of any other origin are trusted.
    #[must_use]
    pub fn trusts_any(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// Checks the authority the request was sent to; an absolute-form target counts by its own.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let mut told = headers.get_all(HOST).iter();
        let header = match (told.next(), told.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            _ => return Err(foreign("exactly one Host header is required")),
        };
        let authority = uri
            .authority()
            .map_or(header, |authority| authority.as_str());
        if self
            .hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(authority))
        {
            Ok(())
        } else {
            Err(foreign("this Host is not one of this bridge's"))
        }
    }

    /// Checks `Origin`; without one the request does not come from a page.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<Page, Refused> {
        let mut told = headers.get_all(ORIGIN).iter();
        let origin = match (told.next(), told.next()) {
            (None, _) => return Ok(Page::None),
            (Some(origin), None) => origin,
            (Some(_), Some(_)) => return Err(foreign("at most one Origin header is allowed")),
        };
        let text = origin.to_str().unwrap_or_default();
        let among = |known: &[String]| known.iter().any(|one| one.eq_ignore_ascii_case(text));
        if among(&self.origins) {
            Ok(Page::Own)
        } else if among(&self.trusted) {
            Ok(Page::Trusted(origin.clone()))
        } else {
            Err(foreign("this Origin is not trusted"))
        }
    }
}

fn foreign(detail: &str) -> Refused {
    Refused::new(ErrorCode::Forbidden, detail)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn names() -> Names {
        let url = Url::parse("https://bridge.example").unwrap();
        let trusted = ["https://studio.example".to_owned()];
        Names::new("127.0.0.1:8787".parse().unwrap(), Some(&url), &trusted)
    }

    fn with(name: &http::HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let uri = Uri::from_static("/v1/me");
        for good in [
            "localhost:8787",
            "127.0.0.1:8787",
            "[::1]:8787",
            "LOCALHOST:8787",
            "bridge.example",
            "bridge.example:443",
        ] {
            assert!(
                names().check_host(&uri, &with(&HOST, &[good])).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "evil.test",
            "localhost",
            "localhost:1",
            "127.0.0.1:8787.evil.test",
            "",
            "bridge.example:8787",
        ] {
            assert!(
                names().check_host(&uri, &with(&HOST, &[bad])).is_err(),
                "{bad}"
            );
        }
        assert!(names().check_host(&uri, &HeaderMap::new()).is_err());
        let twice = with(&HOST, &["localhost:8787", "localhost:8787"]);
        assert!(names().check_host(&uri, &twice).is_err());
    }

    #[test]
    fn an_absolute_target_counts_by_its_own_authority() {
        let ours = with(&HOST, &["localhost:8787"]);
        let foreign = Uri::from_static("http://evil.test/v1/me");
        assert!(names().check_host(&foreign, &ours).is_err());
        let own = Uri::from_static("http://localhost:8787/v1/me");
        assert!(names().check_host(&own, &ours).is_ok());
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        assert_eq!(names().check_origin(&HeaderMap::new()).unwrap(), Page::None);
        for own in ["http://localhost:8787", "https://bridge.example"] {
            let page = names().check_origin(&with(&ORIGIN, &[own])).unwrap();
            assert_eq!(page, Page::Own, "{own}");
        }
        let trusted = with(&ORIGIN, &["https://studio.example"]);
        assert_eq!(
            names().check_origin(&trusted).unwrap(),
            Page::Trusted(HeaderValue::from_static("https://studio.example"))
        );
        for bad in [
            "null",
            "http://evil.test",
            "http://localhost",
            "https://localhost:8787",
            "",
        ] {
            assert!(
                names().check_origin(&with(&ORIGIN, &[bad])).is_err(),
                "{bad}"
            );
        }
    }
}
