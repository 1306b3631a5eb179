//! The legacy stream on which the bridge speaks unasked: changed lists, its own requests. Opened again
//! whenever it ends, with pauses that grow while nothing comes; given up where the bridge grants none.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::Pump;
use super::exchange::{one_line, with_session};
use super::session::View;
use crate::bridge::header_text;
use crate::sse::EventStream;

/// Before a stream that ended is opened again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// No bridge is asked less often than this, so that one that restarts is found soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a stream ended.
enum End {
    /// After it brought something, or not.
    Over { brought: bool },
    /// The bridge grants none.
    NotGranted,
    /// The session is gone.
    SessionGone,
}

impl Pump {
    /// Listens until it is aborted or the bridge grants no stream.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        let mut last_id = None;
        loop {
            let view = self.session.view();
            match self.listen_once(&view, &mut last_id).await {
                End::NotGranted => return,
                End::Over { brought: true } => pause = FIRST_PAUSE,
                End::Over { brought: false } => {}
                End::SessionGone => {
                    last_id = None;
                    if self.renewed(&view).await.is_ok() {
                        pause = FIRST_PAUSE;
                        continue;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen_once(&self, view: &View, last_id: &mut Option<String>) -> End {
        let nothing = End::Over { brought: false };
        let ask = self
            .endpoint
            .place
            .clone()
            .header("accept", Some("text/event-stream"))
            .header("last-event-id", last_id.clone());
        let bridge = self.endpoint.bridge.under_new_trace();
        let Ok(response) = bridge.send(with_session(ask, view)).await else {
            return nothing;
        };
        let kind = header_text(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        match response.status() {
            status if status.is_success() && kind.starts_with("text/event-stream") => {}
            StatusCode::NOT_FOUND if view.id.is_some() => return End::SessionGone,
            status if status.is_server_error() => return nothing,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT => return nothing,
            _ => return End::NotGranted,
        }
        let mut events = EventStream::new(response);
        let mut brought = false;
        while let Ok(Some(event)) = events.next_event().await {
            if event.id.as_ref().is_some_and(|id| !id.is_empty()) {
                *last_id = event.id;
            }
            if event.data.is_empty() {
                continue;
            }
            brought = true;
            match one_line(event.data.as_bytes()) {
                Ok(line) => self.pass(line).await,
                Err(failure) => self.output.note(&failure.message),
            }
        }
        End::Over { brought }
    }
}
