//! What a call tells on its way, as its client wants to hear it. Whether and where it is sent, others decide.

use serde_json::value::RawValue;
use transports::{Notification, wire};

use super::reply;
use super::tasks::related;
use super::visit::{Client, level_of};

/// The message; `None` when the client does not want it. `token`: under which name it wants progress; `task`: the
/// task of 2025-11-25 it belongs to.
pub(super) fn told(
    client: &Client,
    (token, task): (Option<&RawValue>, Option<&str>),
    notice: &Notification,
) -> Option<Vec<u8>> {
    let message = |notice: &Notification| {
        let params = notice.params.as_deref();
        let Some(task) = task else {
            return reply::message(None, &notice.method, params.map(RawValue::get));
        };
        reply::message(None, &notice.method, Some(related(params, task).get()))
    };
    match &*notice.method {
        // Without a token the client asked for none.
        "notifications/progress" => Some(message(&wire::with_progress_token(notice, token?))),
        "notifications/message" if !client.wants(level_of(notice.params.as_deref())) => None,
        _ => Some(message(notice)),
    }
}
