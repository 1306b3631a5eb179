//! Decides which addresses a server may live at, and resolves names only into such addresses.
//!
//! A name is resolved once for each connection, every address of the answer is judged, and the
//! connection goes to exactly those addresses: a name that answers differently the next time gains
//! nothing. Never reads a proxy variable, never follows anything.

mod ranges;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use url::{Host, Url};

use crate::spec::OutboundPolicy;
use ranges::{embedded, special_range, within_v4, within_v6};

/// More addresses than any honest name has; the rest of a longer answer is ignored.
const MAX_ADDRESSES: usize = 32;

/// Why a URL is not connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// Neither `http` nor `https`.
    #[error("only http and https are spoken, not `{scheme}`")]
    Scheme {
        /// What stood there instead.
        scheme: String,
    },
    /// `user@` or `user:password@` in the URL.
    #[error("a URL with user information is refused; put credentials into headers")]
    UserInfo,
    /// No host.
    #[error("the URL has no host")]
    NoHost,
    /// The address lies in a range that is closed unless opened for this server.
    #[error("`{host}` is {range}, which the outbound policy refuses")]
    Refused {
        /// The host as written.
        host: String,
        /// Such as `a loopback address`.
        range: &'static str,
    },
    /// Named in the policy's deny list.
    #[error("`{host}` is denied by the outbound policy")]
    Denied {
        /// The host as written.
        host: String,
    },
    /// The name has no address.
    #[error("`{host}` could not be resolved")]
    Unresolved {
        /// The host as written.
        host: String,
    },
}

/// Judges a URL by what can be seen without resolving it: scheme, user information, literal address.
///
/// # Errors
/// [`OutboundError`]; `Ok` for a name only means that its addresses are still to be judged.
pub fn check_url(url: &Url, policy: &OutboundPolicy) -> Result<(), OutboundError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(OutboundError::Scheme {
            scheme: url.scheme().to_owned(),
        });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OutboundError::UserInfo);
    }
    let rules = Rules::new(policy);
    match url.host().ok_or(OutboundError::NoHost)? {
        Host::Ipv4(address) => rules.judge(&address.to_string(), IpAddr::V4(address)),
        Host::Ipv6(address) => rules.judge(&address.to_string(), IpAddr::V6(address)),
        Host::Domain(name) => rules.judge_name(name),
    }
}

/// A policy made ready for judging.
#[derive(Debug)]
pub(crate) struct Rules {
    allow_private: bool,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

#[derive(Debug, PartialEq, Eq)]
enum Rule {
    Net { base: IpAddr, prefix_bits: u8 },
    Host(String),
}

impl Rules {
    pub(crate) fn new(policy: &OutboundPolicy) -> Self {
        let parse = |texts: &[String]| texts.iter().map(|text| Rule::parse(text)).collect();
        Self {
            allow_private: policy.allow_private,
            allow: parse(&policy.allow),
            deny: parse(&policy.deny),
        }
    }

    fn judge_name(&self, host: &str) -> Result<(), OutboundError> {
        if self.deny.iter().any(|rule| rule.names(host)) {
            return Err(OutboundError::Denied {
                host: host.to_owned(),
            });
        }
        Ok(())
    }

    /// May `address`, to which `host` leads, be connected to?
    pub(crate) fn judge(&self, host: &str, address: IpAddr) -> Result<(), OutboundError> {
        self.judge_name(host)?;
        let real = embedded(address);
        let covers = |rule: &Rule| rule.covers(address) || rule.covers(real);
        if self.deny.iter().any(covers) {
            return Err(OutboundError::Denied {
                host: host.to_owned(),
            });
        }
        let opened = self.allow_private
            || self
                .allow
                .iter()
                .any(|rule| rule.names(host) || covers(rule));
        match special_range(real) {
            Some(range) if !opened => Err(OutboundError::Refused {
                host: host.to_owned(),
                range,
            }),
            _ => Ok(()),
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(a, p)| (a, Some(p)));
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if let Ok(base) = bare.parse::<IpAddr>() {
            let width = if base.is_ipv4() { 32 } else { 128 };
            let bits = prefix.map_or(Ok(width), str::parse::<u8>);
            if let Ok(prefix_bits) = bits
                && prefix_bits <= width
            {
                return Self::Net { base, prefix_bits };
            }
        }
        Self::Host(plain_name(text))
    }

    fn names(&self, host: &str) -> bool {
        matches!(self, Self::Host(name) if *name == plain_name(host))
    }

    fn covers(&self, address: IpAddr) -> bool {
        match (self, address) {
            (
                Self::Net {
                    base: IpAddr::V4(base),
                    prefix_bits,
                },
                IpAddr::V4(v4),
            ) => within_v4(v4, *base, *prefix_bits),
            (
                Self::Net {
                    base: IpAddr::V6(base),
                    prefix_bits,
                },
                IpAddr::V6(v6),
            ) => within_v6(v6, *base, *prefix_bits),
            _ => false,
        }
    }
}

/// `localhost.` and `LOCALHOST` are `localhost`.
fn plain_name(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// How a name becomes addresses; asked once for each connection.
#[derive(Clone)]
pub(crate) struct Lookup(Arc<dyn Fn(String) -> Answering + Send + Sync>);

type Answering = Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;

impl Lookup {
    /// The system's resolver.
    pub(crate) fn system() -> Self {
        Self(Arc::new(|host| {
            Box::pin(async move {
                let answer = tokio::net::lookup_host((host.as_str(), 0)).await?;
                Ok(answer.take(MAX_ADDRESSES).collect())
            })
        }))
    }

    /// One that answers as told, each time anew.
    #[cfg(test)]
    pub(crate) fn scripted(
        answer: impl Fn(&str) -> Vec<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |host| {
            let answer = answer(&host);
            Box::pin(async move { Ok(answer) })
        }))
    }
}

/// Resolves names for the connector; an answer with one refused address is refused whole.
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    pub(crate) rules: Arc<Rules>,
    pub(crate) lookup: Lookup,
}

impl std::fmt::Debug for GuardedResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GuardedResolver").field(&self.rules).finish()
    }
}

impl GuardedResolver {
    async fn resolve(self, host: String) -> Result<std::vec::IntoIter<SocketAddr>, OutboundError> {
        let unresolved = || OutboundError::Unresolved { host: host.clone() };
        let answer = (self.lookup.0)(host.clone()).await;
        let addresses = answer.map_err(|_| unresolved())?;
        if addresses.is_empty() {
            return Err(unresolved());
        }
        for address in &addresses {
            self.rules.judge(&host, address.ip())?;
        }
        Ok(addresses.into_iter())
    }
}

impl tower_service::Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().resolve(name.as_str().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> OutboundPolicy {
        OutboundPolicy::default()
    }

    fn check(text: &str, policy: &OutboundPolicy) -> Result<(), OutboundError> {
        check_url(&text.parse::<Url>().unwrap(), policy)
    }

    #[test]
    fn every_spelling_of_a_closed_address_is_refused() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[::1]",
            "[::]",
            "0.0.0.0",
            "169.254.169.254",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001:0:7f00:1::]",
            "[fe80::1]",
            "[fc00::1]",
            "[ff02::1]",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            let refused = check(&format!("http://{host}:8080/mcp"), &closed());
            assert!(
                matches!(refused, Err(OutboundError::Refused { .. })),
                "{host}: {refused:?}"
            );
        }
    }

    #[test]
    fn public_addresses_and_their_nat64_spelling_are_open() {
        for host in [
            "1.1.1.1",
            "[2606:4700::1111]",
            "[64:ff9b::101:101]",
            "example.com",
        ] {
            assert_eq!(
                check(&format!("https://{host}/"), &closed()),
                Ok(()),
                "{host}"
            );
        }
    }

    #[test]
    fn user_information_and_foreign_schemes_are_refused() {
        for text in [
            "http://example.com@127.0.0.1/",
            "http://user:pw@example.com/",
        ] {
            assert_eq!(
                check(text, &closed()),
                Err(OutboundError::UserInfo),
                "{text}"
            );
        }
        for text in [
            "file:///etc/passwd",
            "gopher://example.com/",
            "ftp://example.com/",
        ] {
            let refused = check(text, &closed());
            assert!(
                matches!(refused, Err(OutboundError::Scheme { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn allow_opens_by_block_address_and_name_and_deny_wins() {
        let policy = OutboundPolicy {
            allow_private: false,
            allow: vec!["10.0.0.0/8".into(), "[::1]".into(), "Build.Local".into()],
            deny: vec!["10.9.0.0/16".into(), "evil.example".into()],
        };
        assert_eq!(check("http://10.1.1.1/", &policy), Ok(()));
        assert_eq!(check("http://[::1]/", &policy), Ok(()));
        assert_eq!(check("http://[::ffff:10.1.1.1]/", &policy), Ok(()));
        for denied in [
            "http://10.9.1.1/",
            "http://[::ffff:10.9.1.1]/",
            "http://EVIL.example./",
        ] {
            let refused = check(denied, &policy);
            assert!(
                matches!(refused, Err(OutboundError::Denied { .. })),
                "{denied}"
            );
        }
        let rules = Rules::new(&policy);
        let private = IpAddr::from([192, 168, 1, 1]);
        assert_eq!(rules.judge("build.local.", private), Ok(()));
        assert!(rules.judge("other.local", private).is_err());
    }

    #[test]
    fn a_rule_that_is_no_block_opens_no_block() {
        assert_eq!(
            Rule::parse("10.0.0.0/99"),
            Rule::Host("10.0.0.0/99".to_owned())
        );
        assert!(Rule::parse("0.0.0.0/0").covers(IpAddr::from([8, 8, 8, 8])));
        assert!(!Rule::parse("::/0").covers(IpAddr::from([8, 8, 8, 8])));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_closed_address_is_refused() {
        let resolver = |policy: OutboundPolicy| GuardedResolver {
            rules: Arc::new(Rules::new(&policy)),
            lookup: Lookup::system(),
        };
        for name in ["localhost", "localhost."] {
            let refused = resolver(closed()).resolve(name.to_owned()).await;
            assert!(refused.is_err(), "{name}");
        }
        let open = OutboundPolicy {
            allow_private: true,
            ..closed()
        };
        let addresses = resolver(open).resolve("localhost".to_owned()).await;
        assert!(addresses.unwrap().all(|address| address.ip().is_loopback()));
    }
}
