//! Puts the token that is good now on each request, and asks once for another when a server refuses it.
//!
//! Never keeps a token and never logs one.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use secrecy::{ExposeSecret as _, SecretString};

use crate::http_answer::drain;
use crate::http_client::{Destination, HttpClient, SendFault};
use crate::http_pool::Answer;
use crate::spec::Bearer;

/// An HTTP client, and whose token it sends with.
#[derive(Debug, Clone)]
pub(crate) struct Bearing {
    pub(crate) client: Arc<HttpClient>,
    pub(crate) bearer: Option<Bearer>,
}

impl Bearing {
    /// See [`HttpClient::destination`].
    pub(crate) fn destination(&self, uri: &Uri) -> Option<Destination> {
        self.client.destination(uri)
    }

    /// See [`HttpClient::send`].
    pub(crate) async fn send(
        &self,
        to: (Method, &Destination),
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Answer>, SendFault> {
        match &self.bearer {
            None => self.client.send(to, headers, body).await,
            // Boxed, so that servers without tokens do not pay for the room.
            Some(bearer) => Box::pin(self.send_bearing(bearer, to, (headers, body))).await,
        }
    }

    async fn send_bearing(
        &self,
        bearer: &Bearer,
        (method, to): (Method, &Destination),
        (headers, body): (HeaderMap, Bytes),
    ) -> Result<Response<Answer>, SendFault> {
        let Some(token) = (bearer.0)(None).await else {
            return self.client.send((method, to), headers, body).await;
        };
        let first = with_token(headers.clone(), &token);
        let sent = self.client.send((method.clone(), to), first, body.clone());
        let response = sent.await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // A request that was refused for its token was not looked at: it may be sent again.
        match (bearer.0)(Some(token)).await {
            None => Ok(response),
            Some(newer) => {
                drain(response).await;
                let headers = with_token(headers, &newer);
                self.client.send((method, to), headers, body).await
            }
        }
    }
}

fn with_token(mut headers: HeaderMap, token: &SecretString) -> HeaderMap {
    // A token no header can carry is left out; the server's refusal then says what is wrong.
    if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())) {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}
