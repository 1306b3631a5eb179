//! Which bridge, as whom, in which workspace: options, environment, profile, defaults, in that order.
//! A token comes from the environment or a file, never from the command line, and is never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::failure::Failure;
use crate::options::Globals;
use crate::places::Places;

/// The daemon's default address.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8787";

/// A token or profile file longer than this is a mistake, not a credential.
const MAX_SMALL_FILE_BYTES: u64 = 64 * 1024;

/// A credential; `Debug` hides it.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// The secret, for the `Authorization` header alone.
    #[must_use]
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Everything a request needs to know about its bridge.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where the bridge is.
    pub(crate) url: Url,
    /// As whom; `None` asks without a credential.
    pub(crate) token: Option<Token>,
    /// Where the token came from, in words.
    pub(crate) token_source: String,
    /// `X-Workspace`.
    pub(crate) workspace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    url: Option<String>,
    token_file: Option<PathBuf>,
    workspace: Option<String>,
}

impl Settings {
    /// Resolves everything; reads at most a profile file and one token file.
    ///
    /// # Errors
    /// A usage failure that names the option, variable or file at fault.
    pub(crate) fn resolve(globals: &Globals, places: &Places) -> Result<Self, Failure> {
        let profile = read_profile(globals.profile.as_deref(), &places.profiles())?;
        let mut settings = Self::without_token(globals, &profile)?;
        let (token, source) = find_token(globals, &profile, places, &settings.url)?;
        settings.token = token;
        settings.token_source = source;
        Ok(settings)
    }

    /// Where the bridge is and in which workspace, without looking for a credential; and the file of the token that was
    /// named, if one was, as an absolute path.
    ///
    /// # Errors
    /// As [`Settings::resolve`].
    pub(crate) fn whereabouts(
        globals: &Globals,
        places: &Places,
    ) -> Result<(Self, Option<PathBuf>), Failure> {
        let profile = read_profile(globals.profile.as_deref(), &places.profiles())?;
        let named = globals.token_file.as_ref().or(profile.token_file.as_ref());
        let named = named.map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
        Ok((Self::without_token(globals, &profile)?, named))
    }

    fn without_token(globals: &Globals, profile: &Profile) -> Result<Self, Failure> {
        let url = globals.url.as_ref().or(profile.url.as_ref());
        let url = parse_url(url.map_or(DEFAULT_URL, String::as_str))?;
        let workspace = globals.workspace.as_ref().or(profile.workspace.as_ref());
        Ok(Self {
            url,
            token: None,
            token_source: "not looked for".to_owned(),
            workspace: workspace.cloned(),
        })
    }

    /// An address below the bridge's.
    #[must_use]
    pub(crate) fn address(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        url
    }

    /// What to do when the bridge takes no credential of this request.
    #[must_use]
    pub(crate) fn credential_advice(&self) -> String {
        let cause = if self.token.is_some() {
            format!("the token came from {}", self.token_source)
        } else {
            "no token was found".to_owned()
        };
        format!(
            "{cause}; set PAPERBOT_TOKEN or --token-file to a valid key (on the bridge's machine its first start left admin.key in the state directory)"
        )
    }

    /// The bridge is on this machine.
    #[must_use]
    pub(crate) fn is_local(&self) -> bool {
        is_loopback(&self.url)
    }
}

fn parse_url(text: &str) -> Result<Url, Failure> {
    // `localhost:8787` parses as a URL of the scheme `localhost`.
    let with_scheme = Url::parse(&format!("http://{text}"));
    if !text.contains("://") && !text.contains('@') && with_scheme.is_ok() {
        let message = format!("the bridge's address `{text}` has no http:// or https://");
        return Err(Failure::usage(message).hint(format!("did you mean http://{text}?")));
    }
    let url = Url::parse(text)
        .map_err(|error| Failure::usage(format!("the bridge's address `{text}`: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Failure::usage(format!(
            "the bridge's address `{text}` is no http or https URL"
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::usage(
            "the bridge's address holds a credential; use PAPERBOT_TOKEN or --token-file",
        ));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn find_token(
    globals: &Globals,
    profile: &Profile,
    places: &Places,
    url: &Url,
) -> Result<(Option<Token>, String), Failure> {
    if let Ok(token) = std::env::var("PAPERBOT_TOKEN")
        && !token.trim().is_empty()
    {
        let token = check_token(&token, "PAPERBOT_TOKEN")?;
        return Ok((Some(token), "PAPERBOT_TOKEN".to_owned()));
    }
    let named = [globals.token_file.as_ref(), profile.token_file.as_ref()];
    if let Some(path) = named.into_iter().flatten().next() {
        let source = path.display().to_string();
        let text = read_small(path)
            .map_err(|error| Failure::usage(format!("token file {source}: {error}")))?;
        return Ok((Some(check_token(&text, &source)?), source));
    }
    // The key the daemon left here belongs to the bridge of this machine; no other host may see it.
    let path = places.admin_key();
    if is_loopback(url)
        && let Ok(text) = read_small(&path)
    {
        let source = path.display().to_string();
        return Ok((Some(check_token(&text, &source)?), source));
    }
    Ok((None, "none found".to_owned()))
}

fn check_token(text: &str, source: &str) -> Result<Token, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(format!(
            "the token from {source} is empty or holds characters no token has"
        )));
    }
    Ok(Token(token.to_owned()))
}

fn read_profile(name: Option<&str>, path: &Path) -> Result<Profile, Failure> {
    let text = match read_small(path) {
        Ok(text) => text,
        Err(_absent) if name.is_none() => return Ok(Profile::default()),
        Err(error) => {
            return Err(Failure::usage(format!(
                "--profile needs {}: {error}",
                path.display()
            )));
        }
    };
    let file: ProfileFile = crate::yaml::read(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let wanted = name.unwrap_or("default");
    match file.profiles.get(wanted) {
        Some(profile) => Ok(profile.clone()),
        None if name.is_none() => Ok(Profile::default()),
        None => {
            let known: Vec<&str> = file.profiles.keys().map(String::as_str).collect();
            Err(Failure::usage(format!(
                "{} has no profile `{wanted}`; it has: {}",
                path.display(),
                known.join(", ")
            )))
        }
    }
}

fn read_small(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_SMALL_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
