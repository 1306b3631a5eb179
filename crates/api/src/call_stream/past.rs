//! The events of a call that has ended, a page at a time, and its end in any case. Follows nothing that still runs.

use std::collections::VecDeque;
use std::sync::Arc;

use broker::events::{Event, EventKind};
use broker::operations::calls::CallView;
use broker::operations::page::{MAX_PAGE, PageRequest};
use broker::operations::records::EventQuery;
use broker::{Asker, BrokerError};
use futures_util::{Stream, stream};
use serde_json::json;

use super::{is_terminal, unnumbered};
use crate::app::Shared;
use crate::event_stream::{self, Frame};
use crate::problem;

/// Reads on while its client does: at most one page of events is in memory.
struct Past {
    app: Shared,
    asker: Asker,
    query: EventQuery,
    view: CallView,
    ready: VecDeque<Arc<Event>>,
    next: Next,
}

/// What is read once the page is used up.
enum Next {
    Page(Option<String>),
    /// No event told the end so far.
    End,
    Nothing,
}

/// What is kept of an ended call after the query's place. Its end comes last, from the ledger when no event of it is
/// kept: the event log sheds what it cannot write, and a bridge that was killed wrote nothing more.
///
/// # Errors
/// `store_unavailable` for the first page; a later one breaks the stream.
pub(super) async fn frames(
    (app, asker): (&Shared, &Asker),
    query: EventQuery,
    view: CallView,
) -> Result<impl Stream<Item = Frame> + use<>, BrokerError> {
    let mut past = Past {
        app: Arc::clone(app),
        asker: asker.clone(),
        query,
        view,
        ready: VecDeque::new(),
        next: Next::Page(None),
    };
    past.read().await?;
    Ok(stream::unfold(past, |mut past| async move {
        let frame = past.frame().await?;
        Some((frame.map_err(std::io::Error::other), past))
    }))
}

impl Past {
    async fn frame(&mut self) -> Option<Result<bytes::Bytes, BrokerError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if is_terminal(&event) {
                    self.ready.clear();
                    self.next = Next::Nothing;
                }
                return Some(Ok(event_stream::frame(&event)));
            }
            match self.next {
                Next::Page(_) => {
                    if let Err(fault) = self.read().await {
                        self.next = Next::Nothing;
                        return Some(Err(fault));
                    }
                }
                Next::End => {
                    self.next = Next::Nothing;
                    match self.told_before().await {
                        Ok(true) => return None,
                        Ok(false) => return Some(Ok(self.end())),
                        Err(fault) => return Some(Err(fault)),
                    }
                }
                Next::Nothing => return None,
            }
        }
    }

    async fn read(&mut self) -> Result<(), BrokerError> {
        let Next::Page(cursor) = &mut self.next else {
            return Ok(());
        };
        let page = PageRequest {
            limit: Some(MAX_PAGE),
            cursor: cursor.take(),
        };
        let broker = &self.app.broker;
        let found = broker
            .list_events(&self.asker, self.query.clone(), page)
            .await?;
        self.ready.extend(found.items);
        self.next = match found.next_cursor {
            Some(cursor) => Next::Page(Some(cursor)),
            None => Next::End,
        };
        Ok(())
    }

    /// Whether the client, who resumes, has the end already.
    async fn told_before(&self) -> Result<bool, BrokerError> {
        if self.query.after == Some(0) {
            return Ok(false);
        }
        let ends = EventQuery {
            kinds: vec![EventKind::ToolResult],
            after: Some(0),
            call_id: self.query.call_id.clone(),
        };
        let page = PageRequest {
            limit: Some(1),
            cursor: None,
        };
        let found = self.app.broker.list_events(&self.asker, ends, page).await?;
        Ok(!found.items.is_empty())
    }

    fn end(&self) -> bytes::Bytes {
        let view = &self.view;
        let result = view.result.as_ref();
        // The result of a plain read is not kept for long; that it succeeded is.
        let ok = view.fault.is_none() && result.is_none_or(|result| !result.is_error());
        let mut data = json!({
            "req_id": view.call_id,
            "ok": ok,
            "result_json": result.and_then(|result| serde_json::from_str::<serde_json::Value>(result.raw().get()).ok()),
        });
        if let Some(fault) = &view.fault {
            let instance = format!("/v1/calls/{}", view.call_id);
            data["error"] = json!(problem::of(fault, &instance, &view.trace_id));
        }
        unnumbered(&view.call_id, &view.trace_id, &data)
    }
}
