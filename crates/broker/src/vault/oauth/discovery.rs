//! Finds a server's authorization server: RFC 9728 for the server, RFC 8414 for the issuer. Believes neither more than
//! it must: the resource must be the server, the issuer must name itself.

use serde::Deserialize;
use url::Url;

use super::challenge::Challenge;
use super::{Way, broken, endpoint};
use crate::error::BrokerError;

/// Scopes taken over from metadata.
const MAX_SCOPES: usize = 32;

/// What a server says of itself (RFC 9728).
#[derive(Debug, Deserialize)]
struct ResourceMetadata {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

/// What an issuer says of itself (RFC 8414).
#[derive(Debug, Deserialize)]
struct IssuerMetadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    registration_endpoint: Option<String>,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Where to ask for a grant.
#[derive(Debug)]
pub(super) struct Found {
    /// What the token is for (RFC 8707).
    pub resource: String,
    /// What the server wants, when nobody said more exactly.
    pub scopes: Vec<String>,
    pub issuer: Issuer,
}

/// An authorization server.
#[derive(Debug)]
pub(super) struct Issuer {
    pub name: String,
    pub authorize: Url,
    pub token: Url,
    pub register: Option<Url>,
    /// It takes `client_secret_post`, but not `client_secret_basic`.
    pub posts_secret: bool,
    /// Its answers to browsers name it (RFC 9207).
    pub names_itself: bool,
}

/// Looks for the authorization server of a server.
///
/// # Errors
/// `upstream_unreachable`, `upstream_protocol_error`.
pub(super) async fn discover(
    way: &Way<'_>,
    challenge: &Challenge,
    wanted_issuer: Option<&str>,
) -> Result<Found, BrokerError> {
    let (resource, scopes, mut named) = match resource(way, challenge).await? {
        Some(told) => {
            check_resource(&told.resource, way.server)?;
            let scopes = told.scopes_supported.into_iter().take(MAX_SCOPES).collect();
            (told.resource, scopes, told.authorization_servers)
        }
        // Before there was such metadata, the server's own origin was the issuer (2025-03-26).
        None => (
            plain(way.server).to_string(),
            Vec::new(),
            vec![way.server.origin().ascii_serialization()],
        ),
    };
    if let Some(wanted) = wanted_issuer {
        named.retain(|named| named == wanted);
    }
    let Some(name) = named.first() else {
        return Err(broken(
            "the server's metadata names no issuer that may be used",
        ));
    };
    Ok(Found {
        resource,
        scopes,
        issuer: issuer(way, name).await?,
    })
}

async fn resource(
    way: &Way<'_>,
    challenge: &Challenge,
) -> Result<Option<ResourceMetadata>, BrokerError> {
    if let Some(told) = &challenge.resource_metadata {
        let url = endpoint(told.as_str(), way)?;
        let found = way.document(&url).await?;
        return found
            .map(Some)
            .ok_or_else(|| broken("the metadata its challenge names is not there"));
    }
    for url in well_known(way.server, "oauth-protected-resource") {
        if let Some(found) = way.document(&url).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn issuer(way: &Way<'_>, name: &str) -> Result<Issuer, BrokerError> {
    let url = endpoint(name, way)?;
    let mut places = well_known(&url, "oauth-authorization-server");
    places.extend(well_known(&url, "openid-configuration"));
    let mut after = url.clone();
    let path = url.path().trim_end_matches('/');
    after.set_path(&format!("{path}/.well-known/openid-configuration"));
    places.push(after);
    for place in places {
        if let Some(told) = way.document::<IssuerMetadata>(&place).await? {
            return checked(way, told, name);
        }
    }
    Err(broken("it has no metadata"))
}

fn checked(way: &Way<'_>, told: IssuerMetadata, name: &str) -> Result<Issuer, BrokerError> {
    // Else one issuer's metadata could speak for another.
    if told.issuer.trim_end_matches('/') != name.trim_end_matches('/') {
        return Err(broken("its metadata names another issuer"));
    }
    let methods = &told.code_challenge_methods_supported;
    if !methods.iter().any(|method| method == "S256") {
        return Err(broken("it does not offer PKCE with S256"));
    }
    let offers = |method: &str| {
        let mut offered = told.token_endpoint_auth_methods_supported.iter();
        offered.any(|offered| offered == method)
    };
    let register = told.registration_endpoint.as_deref();
    Ok(Issuer {
        authorize: endpoint(&told.authorization_endpoint, way)?,
        token: endpoint(&told.token_endpoint, way)?,
        register: register.map(|url| endpoint(url, way)).transpose()?,
        posts_secret: offers("client_secret_post") && !offers("client_secret_basic"),
        names_itself: told.authorization_response_iss_parameter_supported,
        name: told.issuer,
    })
}

/// The well-known places for a URL with a path: with the path behind, then without it.
fn well_known(of: &Url, what: &str) -> Vec<Url> {
    let path = of.path().trim_end_matches('/');
    let mut paths = vec![format!("/.well-known/{what}{path}")];
    if !path.is_empty() {
        paths.push(format!("/.well-known/{what}"));
    }
    let at = |path: &String| {
        let mut url = plain(of);
        url.set_path(path);
        url.set_query(None);
        url
    };
    paths.iter().map(at).collect()
}

fn plain(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    url
}

/// The resource metadata speaks of must be the server, or what the server's address lies under: else a token for
/// somebody else's resource would be sent to this server.
fn check_resource(resource: &str, server: &Url) -> Result<(), BrokerError> {
    let url = Url::parse(resource).ok();
    let covers = url.is_some_and(|url| {
        let under = url.path().trim_end_matches('/');
        let rest = server.path().strip_prefix(under);
        url.origin() == server.origin()
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if covers {
        Ok(())
    } else {
        Err(broken("the server's metadata is about another resource"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn well_known_places_stand_before_the_path_and_then_without_it() {
        let places = well_known(
            &url("https://s.example/a/mcp?x=1#y"),
            "oauth-protected-resource",
        );
        let texts: Vec<_> = places.iter().map(Url::as_str).collect();
        assert_eq!(
            texts,
            [
                "https://s.example/.well-known/oauth-protected-resource/a/mcp",
                "https://s.example/.well-known/oauth-protected-resource"
            ]
        );
        assert_eq!(well_known(&url("https://s.example"), "x").len(), 1);
    }

    #[test]
    fn a_resource_covers_its_own_origin_and_path_alone() {
        let server = url("https://s.example/a/mcp");
        for good in [
            "https://s.example",
            "https://s.example/a",
            "https://s.example/a/mcp",
            "https://S.example:443/a/",
        ] {
            assert!(check_resource(good, &server).is_ok(), "{good}");
        }
        for bad in [
            "https://t.example/a/mcp",
            "http://s.example/a",
            "https://s.example/a/mc",
            "https://s.example:444/",
            "no url",
        ] {
            assert!(check_resource(bad, &server).is_err(), "{bad}");
        }
    }
}
