//! Which address a request comes from, and which addresses may come in at all.
//!
//! `X-Forwarded-For` is believed from named proxies only, and of it only what they added: the right-most hop that is no
//! named proxy. No other header tells an address here.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The header proxies append to.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Hops looked at; more proxies than this stand in no row.
const MAX_HOPS: usize = 32;

/// The other end of the connection; `serve` puts it to each request.
#[derive(Debug, Clone, Copy)]
pub struct Remote(pub SocketAddr);

/// Which addresses may come in, and whose word about them counts.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    allowed: Vec<IpNet>,
    proxies: Vec<IpNet>,
}

/// A network, or one address.
///
/// # Errors
/// What is expected.
pub fn network(text: &str) -> Result<IpNet, InvalidNetwork> {
    let text = text.trim();
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| single())
        .map_err(|_| InvalidNetwork)
}

/// It is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or a CIDR block such as 10.0.0.0/8")]
pub struct InvalidNetwork;

impl Addresses {
    /// With an empty list of allowed ones every address may come in. What is no network is left out; the
    /// configuration was checked before.
    #[must_use]
    pub fn new(allowed: &[String], proxies: &[String]) -> Self {
        let read = |texts: &[String]| texts.iter().filter_map(|text| network(text).ok()).collect();
        Self {
            allowed: read(allowed),
            proxies: read(proxies),
        }
    }

    /// Where a request comes from; `None` when named proxies tell what is no address.
    #[must_use]
    pub fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let mut address = peer.to_canonical();
        if !within(&self.proxies, address) {
            return Some(address);
        }
        let lines: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        for (place, hop) in hops.enumerate() {
            if place >= MAX_HOPS {
                return None;
            }
            address = hop_address(hop.trim())?;
            if !within(&self.proxies, address) {
                return Some(address);
            }
        }
        Some(address)
    }

    /// Whether a request may come in.
    #[must_use]
    pub fn admits(&self, origin: Option<IpAddr>) -> bool {
        self.allowed.is_empty() || origin.is_some_and(|origin| within(&self.allowed, origin))
    }
}

fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn hop_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>();
    let address = address.or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn addresses() -> Addresses {
        let texts = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        Addresses::new(
            &texts(&["198.51.100.0/24", "2001:db8::/32"]),
            &texts(&["127.0.0.1", "10.0.0.0/8"]),
        )
    }

    fn from(peer: &str, forwarded: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let origin = addresses().origin(peer.parse().unwrap(), &headers);
        origin.map(|origin| origin.to_string())
    }

    #[test]
    fn only_named_proxies_are_believed_and_only_what_they_added() {
        for (peer, forwarded, origin) in [
            ("203.0.113.9", &["198.51.100.1"][..], Some("203.0.113.9")),
            ("127.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            (
                "127.0.0.1",
                &["198.51.100.1, 203.0.113.9"],
                Some("203.0.113.9"),
            ),
            (
                "127.0.0.1",
                &["198.51.100.1, 203.0.113.9, 10.1.1.1"],
                Some("203.0.113.9"),
            ),
            (
                "127.0.0.1",
                &["198.51.100.1", "203.0.113.9"],
                Some("203.0.113.9"),
            ),
            ("127.0.0.1", &[], Some("127.0.0.1")),
            (
                "::ffff:127.0.0.1",
                &["[2001:db8::7]:443"],
                Some("2001:db8::7"),
            ),
            ("127.0.0.1", &["198.51.100.1:1234"], Some("198.51.100.1")),
            ("127.0.0.1", &["unknown"], None),
            ("127.0.0.1", &["198.51.100.1, "], None),
        ] {
            let found = from(peer, forwarded);
            assert_eq!(found.as_deref(), origin, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn who_is_not_listed_or_cannot_be_told_stays_outside() {
        let admits = |text: &str| addresses().admits(Some(text.parse().unwrap()));
        assert!(admits("198.51.100.200") && admits("2001:db8::1"));
        assert!(!admits("198.51.101.1") && !admits("127.0.0.1"));
        assert!(!addresses().admits(None));
        assert!(Addresses::default().admits(None));
        assert!(network("10.0.0.0/33").is_err() && network("host").is_err());
    }

    #[test]
    fn a_row_of_proxies_without_an_end_is_nobody() {
        let line = vec!["10.0.0.1"; MAX_HOPS + 1].join(",");
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, HeaderValue::try_from(line).unwrap());
        let peer = "127.0.0.1".parse().unwrap();
        assert_eq!(addresses().origin(peer, &headers), None);
    }
}
