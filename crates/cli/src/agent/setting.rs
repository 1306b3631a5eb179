//! A value of the agent's file: literal text or a reference to a secret. Resolved here, on this machine.

use std::fmt;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Largest secret file read; secrets are tokens and keys, not documents.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// What a reference may be, in words.
const KINDS: &str = "a secret reference is env:NAME or file:/path";

/// Literal text or a reference. `Debug` shows no literal.
#[derive(Clone)]
pub(crate) enum Setting {
    /// The value itself.
    Plain(SecretString),
    /// `{secret: "env:NAME" | "file:/path", prefix?}`.
    Reference {
        /// The reference.
        secret: String,
        /// Put before the secret, such as `Bearer `.
        prefix: Option<String>,
    },
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(…)"),
            Self::Reference { secret, .. } => write!(f, "Reference({secret})"),
        }
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Member {
    Secret,
    Prefix,
}

impl<'de> Visitor<'de> for Reader {
    type Value = Setting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes, or {secret: env:NAME}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Setting, E> {
        Ok(Setting::Plain(SecretString::from(text)))
    }

    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<Setting, E> {
        Err(unquoted())
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<Setting, E> {
        Err(unquoted())
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<Setting, E> {
        Err(unquoted())
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<Setting, E> {
        Err(unquoted())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Setting, E> {
        Err(E::custom("a value is missing; write \"\" for none"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Setting, A::Error> {
        let (mut secret, mut prefix) = (None, None);
        while let Some(member) = members.next_key::<Member>()? {
            match member {
                Member::Secret => secret = Some(members.next_value()?),
                Member::Prefix => prefix = Some(members.next_value()?),
            }
        }
        let secret = secret.ok_or_else(|| de::Error::missing_field("secret"))?;
        Ok(Setting::Reference { secret, prefix })
    }
}

/// YAML would make another text of `1.10`, `0x10` or `no`.
fn unquoted<E: de::Error>() -> E {
    E::custom("a number or truth value stands here where text is meant; put it into quotes")
}

impl Setting {
    /// Whether it could be resolved at all, without looking at the value.
    ///
    /// # Errors
    /// What is wrong with the reference, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self::Reference { secret, .. } = self else {
            return Ok(());
        };
        match secret.split_once(':') {
            Some(("env" | "file", "")) => Err(KINDS.to_owned()),
            Some(("env", _)) => Ok(()),
            Some(("file", path)) if Path::new(path).is_absolute() => Ok(()),
            Some(("file", _)) => Err("a secret's file is named by its whole path".to_owned()),
            Some(("store" | "vault", _)) => Err(
                "store: and vault: references are the bridge's; an agent keeps its secrets itself: env: or file:"
                    .to_owned(),
            ),
            _ => Err(KINDS.to_owned()),
        }
    }

    /// The value, read now.
    ///
    /// # Errors
    /// Which reference could not be read and why, without any value.
    pub(crate) fn resolve(&self) -> Result<SecretString, String> {
        self.check()?;
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Reference { secret, prefix } => {
                let found = match secret.split_once(':') {
                    Some(("env", name)) => std::env::var(name)
                        .map_err(|_| format!("the environment variable {name} is not set"))?,
                    Some((_, path)) => read_file(Path::new(path))?,
                    None => return Err(KINDS.to_owned()),
                };
                let prefix = prefix.as_deref().unwrap_or_default();
                Ok(SecretString::from(format!("{prefix}{found}")))
            }
        }
    }

    /// As it may be shown: references as they are, literals masked.
    pub(crate) fn shown(&self) -> serde_json::Value {
        match self {
            Self::Plain(text) if text.expose_secret().is_empty() => "".into(),
            Self::Plain(_) => super::shown::MASK.into(),
            Self::Reference { secret, prefix } => match prefix {
                Some(prefix) => serde_json::json!({"secret": secret, "prefix": prefix}),
                None => serde_json::json!({"secret": secret}),
            },
        }
    }
}

/// A file that holds one secret, without the line end at its end.
///
/// # Errors
/// Why not, in words.
pub(crate) fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut file = file.take(MAX_SECRET_BYTES + 1);
    let size = file.read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(size).unwrap_or(u64::MAX) > MAX_SECRET_BYTES {
        let bound = MAX_SECRET_BYTES;
        return Err(format!("{} is larger than {bound} bytes", path.display()));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
