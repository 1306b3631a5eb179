//! Who may come in, with what, and from where: the section `auth` of the configuration file.

use broker::AccessOptions;
use broker::issuer::{ALGORITHMS, IssuerOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::source::ConfigError;
use crate::front::address::network;
use crate::suggestion;

/// Half a day: a working day with its breaks.
const LOGIN_TTL_S: u64 = 12 * 3600;

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// API keys are taken. `false` without `jwt` only on loopback: whoever reaches it is the local admin.
    pub keys: bool,
    /// Keys are taken by HTTP Basic, too, for clients that know nothing else: the user's or the key's id, and the key.
    pub basic: bool,
    /// Tokens of an OIDC issuer are taken.
    pub jwt: Option<Jwt>,
    /// How long a login of a browser lasts, in seconds.
    pub login_ttl_s: u64,
    /// Origins of pages that may talk to the bridge besides its own.
    pub trusted_origins: Vec<String>,
    /// Addresses and CIDR blocks that may come in; all, when empty.
    pub ip_allow: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            keys: true,
            basic: false,
            jwt: None,
            login_ttl_s: LOGIN_TTL_S,
            trusted_origins: Vec::new(),
            ip_allow: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

/// Whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// What `iss` must be, to the letter.
    pub issuer: String,
    /// What `aud` must be, or name among others.
    pub audience: String,
    /// Where the issuer's public keys are; http only on loopback.
    pub jwks_url: String,
    /// The claim that names workspaces: a list, or roles by workspace.
    #[serde(default = "workspaces")]
    pub workspace_claim: String,
    /// The claim that names roles.
    #[serde(default = "roles")]
    pub roles_claim: String,
    /// Algorithms taken, of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, `EdDSA`.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<String>,
}

fn workspaces() -> String {
    "workspaces".to_owned()
}

fn roles() -> String {
    "roles".to_owned()
}

fn algorithms() -> Vec<String> {
    ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec()
}

impl Auth {
    /// No credential is taken at all.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.keys && self.jwt.is_none()
    }

    /// In the broker's terms. What [`Auth::check`] refuses takes no tokens.
    #[must_use]
    pub fn access(&self) -> AccessOptions {
        AccessOptions {
            keys: self.keys,
            issuer: self.jwt.as_ref().and_then(Jwt::options),
        }
    }

    /// What no type can say.
    ///
    /// # Errors
    /// [`ConfigError`] with the first complaint.
    pub fn check(&self) -> Result<(), ConfigError> {
        for origin in &self.trusted_origins {
            if origin == "*" {
                let detail = "`*` is refused on purpose: any page could ask in its visitor's name; name each origin";
                return Err(ConfigError::at("/auth/trusted_origins", detail));
            }
            let parsed = Url::parse(origin);
            if !parsed.is_ok_and(|url| url.host_str().is_some() && matches!(url.path(), "" | "/")) {
                let detail = "expected scheme://host or scheme://host:port";
                return Err(ConfigError::at("/auth/trusted_origins", detail));
            }
        }
        for (place, texts) in [
            ("/auth/ip_allow", &self.ip_allow),
            ("/auth/trusted_proxies", &self.trusted_proxies),
        ] {
            for text in texts {
                network(text).map_err(|error| ConfigError::at(place, &error.to_string()))?;
            }
        }
        if self.basic && !self.keys {
            let detail = "HTTP Basic carries keys, and auth.keys is false";
            return Err(ConfigError::at("/auth/basic", detail));
        }
        if self.login_ttl_s == 0 {
            return Err(ConfigError::at("/auth/login_ttl_s", "must be at least 1"));
        }
        self.jwt.as_ref().map_or(Ok(()), Jwt::check)
    }
}

impl Jwt {
    fn options(&self) -> Option<IssuerOptions> {
        let named = |name: &String| ALGORITHMS.iter().find(|(known, _)| known == name);
        Some(IssuerOptions {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            jwks_url: Url::parse(&self.jwks_url).ok()?,
            workspace_claim: self.workspace_claim.clone(),
            roles_claim: self.roles_claim.clone(),
            algorithms: self
                .algorithms
                .iter()
                .filter_map(named)
                .map(|(_, algorithm)| *algorithm)
                .collect(),
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (place, text) in [
            ("/auth/jwt/issuer", &self.issuer),
            ("/auth/jwt/audience", &self.audience),
            ("/auth/jwt/workspace_claim", &self.workspace_claim),
            ("/auth/jwt/roles_claim", &self.roles_claim),
        ] {
            if text.is_empty() {
                return Err(ConfigError::at(place, "must not be empty"));
            }
        }
        let at_url = |detail: &str| ConfigError::at("/auth/jwt/jwks_url", detail);
        let url = Url::parse(&self.jwks_url).map_err(|error| at_url(&error.to_string()))?;
        let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        if !safe {
            return Err(at_url("expected https://…; http:// only on loopback"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(at_url("expected a URL without user information"));
        }
        let place = "/auth/jwt/algorithms";
        if self.algorithms.is_empty() {
            return Err(ConfigError::at(place, "must name at least one"));
        }
        for name in &self.algorithms {
            if !ALGORITHMS.iter().any(|(known, _)| known == name) {
                let known = ALGORITHMS.iter().map(|(known, _)| *known);
                let detail = suggestion::unknown("algorithm", name, known);
                return Err(ConfigError::at(place, &detail));
            }
        }
        Ok(())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::source::parse;

    fn complaint(auth: &str) -> Option<String> {
        let file = parse(&format!("auth: {auth}"), "x");
        let checked = file.and_then(|file| file.auth.check());
        checked.err().map(|error| error.place)
    }

    fn jwt(change: (&str, &str)) -> String {
        let good = "{jwt: {issuer: 'https://id.test', audience: bridge, jwks_url: 'https://id.test/keys'}}";
        good.replace(change.0, change.1)
    }

    #[test]
    fn tokens_are_checked_with_keys_that_came_safely_and_by_algorithms_without_a_shared_secret() {
        assert_eq!(complaint(&jwt(("", ""))), None);
        let loopback = jwt(("https://id.test/keys", "http://127.0.0.1:1/keys"));
        assert_eq!(complaint(&loopback), None);
        for (bad, place) in [
            (
                jwt(("https://id.test/keys", "http://id.test/keys")),
                "/auth/jwt/jwks_url",
            ),
            (
                jwt(("https://id.test/keys", "file:///keys")),
                "/auth/jwt/jwks_url",
            ),
            (
                jwt(("https://id.test/keys", "https://u:p@id.test/")),
                "/auth/jwt/jwks_url",
            ),
            (
                jwt(("audience: bridge", "audience: ''")),
                "/auth/jwt/audience",
            ),
            (
                jwt(("audience: bridge", "audience: b, algorithms: [HS256]")),
                "/auth/jwt/algorithms",
            ),
            (
                jwt(("audience: bridge", "audience: b, algorithms: [none]")),
                "/auth/jwt/algorithms",
            ),
            (
                jwt(("audience: bridge", "audience: b, algorithms: []")),
                "/auth/jwt/algorithms",
            ),
        ] {
            assert_eq!(complaint(&bad).as_deref(), Some(place), "{bad}");
        }
    }

    #[test]
    fn networks_are_networks_and_basic_carries_keys() {
        assert_eq!(
            complaint("{ip_allow: [10.0.0.0/8, '::1'], trusted_proxies: [127.0.0.1]}"),
            None
        );
        for (bad, place) in [
            ("{ip_allow: [everyone]}", "/auth/ip_allow"),
            ("{trusted_proxies: [10.0.0.0/40]}", "/auth/trusted_proxies"),
            ("{keys: false, basic: true}", "/auth/basic"),
            ("{login_ttl_s: 0}", "/auth/login_ttl_s"),
        ] {
            assert_eq!(complaint(bad).as_deref(), Some(place), "{bad}");
        }
    }
}
