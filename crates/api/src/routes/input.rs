//! Answers to what the server of a running call asks.

use std::time::Duration;

use axum::extract::State;
use broker::InputAnswer;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::at;
use super::views;
use crate::answer::{self, Answer};
use crate::app::{Asked, Segment, Shared};
use crate::front::body::Json;
use crate::problem::Refused;
use crate::suggestion;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(answer_input))
}

/// Answers what the server of a running call asks; answers the call's state after that.
#[utoipa::path(
    post, path = "/v1/calls/{call_id}/input", operation_id = "answer_input", tag = "calls",
    params(("call_id" = String, Path)),
    request_body = wire::InputResponses,
    responses((status = 202, body = wire::Call))
)]
async fn answer_input(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(call_id): Segment,
    Json(given): Json<wire::InputResponses>,
) -> Answer {
    let answers = given.responses.into_iter().map(|(key, raw)| {
        let answer = input_answer(&key, raw)?;
        Ok((key, answer))
    });
    let answers = answers.collect::<Result<Vec<_>, Refused>>()?;
    app.broker.answer_input(&asker, &call_id, answers)?;
    let view = app
        .broker
        .get_call(&asker, &call_id, Duration::ZERO)
        .await?;
    let response = answer::json(&views::call(view))?;
    Ok(answer::with_status(response, StatusCode::ACCEPTED))
}

/// A result as the method has it, or the one member `error`.
fn input_answer(key: &str, raw: Box<RawValue>) -> Result<InputAnswer, Refused> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Failed {
        error: Failure,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Failure {
        code: i64,
        message: String,
    }
    if !raw.get().starts_with('{') {
        let key = suggestion::shorten(key)
            .replace('~', "~0")
            .replace('/', "~1");
        return Err(at(&format!("/responses/{key}"), "expected an object"));
    }
    Ok(match serde_json::from_str::<Failed>(raw.get()) {
        Ok(Failed { error }) => InputAnswer::Error {
            code: error.code,
            message: error.message,
        },
        Err(_) => InputAnswer::Result(raw),
    })
}
