//! Answers without an end: each stands open for as long as the credential it was asked for with opens what it opened,
//! and not a second longer.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http_body::Frame;

/// The media type of answers that may have no end.
const EVENTS: &str = "text/event-stream";

/// Whether an answer may have no end.
pub(crate) fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(EVENTS.as_bytes()))
}

/// The answer, which ends at the latest when `lost` does.
pub(crate) fn until(
    response: Response,
    lost: impl Future<Output = ()> + Send + 'static,
) -> Response {
    response.map(|body| {
        Body::new(Held {
            body: Some(body),
            lost: Box::pin(lost),
        })
    })
}

struct Held {
    /// Let go of at the end, and with it whatever works for it.
    body: Option<Body>,
    lost: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let held = self.get_mut();
        let Some(body) = &mut held.body else {
            return Poll::Ready(None);
        };
        // Asked first: nothing that happened afterwards is told.
        if held.lost.as_mut().poll(cx).is_ready() {
            held.body = None;
            return Poll::Ready(None);
        }
        let frame = Pin::new(body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            held.body = None;
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_with_its_credential_and_lets_go_of_what_fed_it() {
        let (feed, source) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let (end, ended) = oneshot::channel::<()>();
        let frames = stream::unfold(source, async |mut source| {
            Some((source.recv().await?, source))
        });
        let response = Response::new(Body::from_stream(frames));
        let mut body = until(response, async {
            let _ = ended.await;
        })
        .into_body();
        feed.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
        let one = body.frame().await.unwrap().unwrap();
        assert_eq!(one.into_data().unwrap(), "one");
        feed.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
        end.send(()).unwrap();
        assert!(body.frame().await.is_none(), "what came later is not told");
        assert!(feed.is_closed());
    }
}
