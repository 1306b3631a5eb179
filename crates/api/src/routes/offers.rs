//! Resources, resource templates, prompts and completion.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use broker::operations::catalog::ListOffer;
use broker::operations::resources::{
    Complete, CompleteTarget, GetPrompt, ReadResource, UpstreamAnswer,
};
use broker::{Asker, ErrorCode};
use serde_json::value::{RawValue, to_raw_value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::{at, lane, timeout};
use super::views;
use crate::answer::{self, Answer};
use crate::app::{Asked, Shared};
use crate::front::body::Json;
use crate::front::query::Query;
use crate::problem::Refused;
use crate::wire;

/// What lists of offers know.
const LIST: [&str; 3] = ["server", "limit", "cursor"];

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_resources))
        .routes(routes!(list_resource_templates))
        .routes(routes!(read_resource))
        .routes(routes!(list_prompts))
        .routes(routes!(get_prompt))
        .routes(routes!(complete))
}

fn offer(raw: Option<&str>) -> Result<ListOffer, Refused> {
    let mut query = Query::parse(raw, &LIST, &[])?;
    Ok(ListOffer {
        server: query.text("server"),
        page: super::page(&mut query)?,
    })
}

/// Resources.
#[utoipa::path(
    get, path = "/v1/resources", operation_id = "list_resources", tag = "resources",
    params(("server" = Option<String>, Query), ("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::Resource>))
)]
async fn list_resources(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let page = app
        .broker
        .list_resources(&asker, offer(raw.as_deref())?)
        .await?;
    answer::json(&views::page(page, |item| views::resource(&item)))
}

/// Resource templates.
#[utoipa::path(
    get, path = "/v1/resource-templates", operation_id = "list_resource_templates", tag = "resources",
    params(("server" = Option<String>, Query), ("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::ResourceTemplate>))
)]
async fn list_resource_templates(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let request = offer(raw.as_deref())?;
    let page = app.broker.list_resource_templates(&asker, request).await?;
    answer::json(&views::page(page, |item| views::template(&item)))
}

/// Reads a resource.
#[utoipa::path(
    get, path = "/v1/resources/read", operation_id = "read_resource", tag = "resources",
    params(
        ("server" = String, Query), ("uri" = String, Query), ("lane" = Option<String>, Query),
        ("timeout_ms" = Option<u64>, Query),
    ),
    responses((status = 200, body = wire::Contents))
)]
async fn read_resource(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(
        raw.as_deref(),
        &["server", "uri", "lane", "timeout_ms"],
        &[],
    )?;
    let request = ReadResource {
        server: query.required("server")?,
        uri: query.required("uri")?,
        lane: lane(query.text("lane"))?,
        timeout: timeout(query.number("timeout_ms")?)?,
    };
    let answer = app.broker.read_resource(&asker, request).await?;
    beside(&asker, &answer)
}

/// Prompts.
#[utoipa::path(
    get, path = "/v1/prompts", operation_id = "list_prompts", tag = "prompts",
    params(("server" = Option<String>, Query), ("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::Prompt>))
)]
async fn list_prompts(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let page = app
        .broker
        .list_prompts(&asker, offer(raw.as_deref())?)
        .await?;
    answer::json(&views::page(page, |item| views::prompt(&item)))
}

/// Gets a prompt's messages.
#[utoipa::path(
    post, path = "/v1/prompts/get", operation_id = "get_prompt", tag = "prompts",
    request_body = wire::PromptRequest,
    responses((status = 200, body = wire::Messages))
)]
async fn get_prompt(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Json(body): Json<wire::PromptRequest>,
) -> Answer {
    let request = GetPrompt {
        reference: body.reference,
        arguments: body.arguments,
        lane: lane(body.lane)?,
        timeout: timeout(body.timeout_ms)?,
    };
    let answer = app.broker.get_prompt(&asker, request).await?;
    beside(&asker, &answer)
}

/// Completes an argument of a prompt or of a resource template.
#[utoipa::path(
    post, path = "/v1/complete", operation_id = "complete", tag = "prompts",
    request_body = wire::CompleteRequest,
    responses((status = 200, body = wire::Completion))
)]
async fn complete(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Json(body): Json<wire::CompleteRequest>,
) -> Answer {
    let target = match (body.reference, body.server, body.uri_template) {
        (Some(reference), None, None) => CompleteTarget::Prompt { reference },
        (None, Some(server), Some(uri_template)) => CompleteTarget::Template {
            server,
            uri_template,
        },
        _ => {
            return Err(at(
                "/ref",
                "either `ref`, or `server` with `uri_template`, is required",
            ));
        }
    };
    let request = Complete {
        target,
        argument: body.argument.name,
        value: body.argument.value,
        context: body.context,
        lane: lane(body.lane)?,
        timeout: timeout(body.timeout_ms)?,
    };
    let answer = app.broker.complete(&asker, request).await?;
    beside(&asker, &answer)
}

/// The members of the server's result, with the call's own beside them. Ours win over equal names.
fn beside(asker: &Asker, answer: &UpstreamAnswer) -> Answer {
    let broken = |_| {
        Refused::new(
            ErrorCode::UpstreamProtocolError,
            "the server's result is no object",
        )
    };
    let mut members: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    let theirs: BTreeMap<std::borrow::Cow<'_, str>, &RawValue> =
        serde_json::from_str(answer.result.raw().get()).map_err(broken)?;
    for (name, value) in &theirs {
        members.insert(name, (*value).to_owned());
    }
    let millis = u64::try_from(answer.duration.as_millis()).unwrap_or(u64::MAX);
    members.insert("call_id", to_raw_value(&answer.call_id).map_err(broken)?);
    members.insert("trace_id", to_raw_value(&asker.trace.id()).map_err(broken)?);
    members.insert("duration_ms", to_raw_value(&millis).map_err(broken)?);
    answer::json(&members)
}
