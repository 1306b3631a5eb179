//! Requests to a token endpoint: a code for tokens, a refresh token for newer ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::registration::Client;
use super::{Way, broken};
use crate::error::BrokerError;

/// Longest token taken; a header must hold it.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Tokens as an issuer gives them. Has no `Debug` on purpose.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub access_token: String,
    token_type: String,
    #[serde(default)]
    pub expires_in: Option<u64>,
    #[serde(default)]
    pub refresh_token: Option<String>,
    #[serde(default)]
    pub scope: Option<String>,
}

/// Why there are none.
pub(super) enum NoTokens {
    /// The issuer says that the code or refresh token is no longer good: asking again is of no use.
    Refused,
    /// Anything else.
    Failed(BrokerError),
}

impl From<BrokerError> for NoTokens {
    fn from(fault: BrokerError) -> Self {
        Self::Failed(fault)
    }
}

#[derive(Deserialize)]
struct Complaint {
    error: String,
}

/// Asks for tokens with `fields`, as this client.
pub(super) async fn ask(
    way: &Way<'_>,
    (endpoint, client): (&Url, &Client),
    fields: &[(&str, &str)],
) -> Result<Tokens, NoTokens> {
    let (headers, body) = request(client, fields)?;
    let told = way.send((Method::POST, endpoint), (headers, body)).await?;
    if told.status == StatusCode::BAD_REQUEST || told.status == StatusCode::UNAUTHORIZED {
        let said = serde_json::from_slice::<Complaint>(&told.body).ok();
        if said.is_some_and(|said| said.error == "invalid_grant") {
            return Err(NoTokens::Refused);
        }
    }
    if !told.status.is_success() {
        return Err(broken("its token endpoint refuses").into());
    }
    let tokens: Tokens = serde_json::from_slice(&told.body)
        .map_err(|_| broken("its token endpoint's answer cannot be read"))?;
    let fits = |token: &str| !token.is_empty() && token.len() <= MAX_TOKEN_BYTES;
    let sendable = HeaderValue::from_str(&tokens.access_token).is_ok();
    if !tokens.token_type.eq_ignore_ascii_case("bearer") || !sendable || !fits(&tokens.access_token)
    {
        return Err(broken("it gives tokens that are no bearer tokens").into());
    }
    Ok(tokens)
}

/// The form, and how the client shows who it is.
fn request(client: &Client, fields: &[(&str, &str)]) -> Result<(HeaderMap, Bytes), BrokerError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    let mut headers = HeaderMap::new();
    match &client.secret {
        Some(secret) if !client.posts_secret => {
            headers.insert(header::AUTHORIZATION, basic(&client.id, secret)?);
        }
        Some(secret) => {
            form.append_pair("client_id", &client.id);
            form.append_pair("client_secret", secret);
        }
        None => {
            form.append_pair("client_id", &client.id);
        }
    }
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(header::CONTENT_TYPE, kind);
    Ok((headers, Bytes::from(form.finish())))
}

/// `client_secret_basic`: both parts are form-encoded first (RFC 6749 § 2.3.1).
fn basic(id: &str, secret: &str) -> Result<HeaderValue, BrokerError> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(id), encoded(secret));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
        .map_err(|_| broken("its client cannot be told in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
