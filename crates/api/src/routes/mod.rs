//! The routes of the contract, one file per group, and the OpenAPI document made from them.

mod agents;
mod approvals;
mod calls;
mod catalog;
mod credentials;
mod events;
mod input;
mod logins;
mod oauth;
mod offers;
mod pins;
mod principals;
mod records;
mod servers;
mod sessions;
mod system;
mod tunnel;
pub mod views;

pub(crate) use calls::timeout;

use axum::Router;
use broker::operations::page::PageRequest;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::app::Shared;
use crate::front::query::Query;
use crate::problem::Refused;
use crate::wire::Problem;

/// Name of the one credential in the document.
const BEARER: &str = "api_key";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "PaperBot MCP Bridge",
        description = "A resident bridge between MCP servers and whoever wants their tools.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem))
)]
struct Document;

/// All routes and their document.
#[must_use]
pub fn all() -> (OpenApiRouter<Shared>, OpenApi) {
    let mut router = OpenApiRouter::with_openapi(Document::openapi())
        .merge(catalog::routes())
        .merge(calls::routes())
        .merge(input::routes())
        .merge(approvals::routes())
        .merge(offers::routes())
        .merge(sessions::routes())
        .merge(servers::routes())
        .merge(pins::routes())
        .merge(events::routes())
        .merge(records::routes())
        .merge(principals::routes())
        .merge(logins::routes())
        .merge(credentials::routes())
        .merge(oauth::routes())
        .merge(agents::routes())
        .merge(tunnel::routes())
        .merge(system::routes());
    let document = finish(router.to_openapi());
    (router, document)
}

/// The router the front stands before.
pub fn router(app: Shared) -> Router {
    let (router, _) = all();
    Router::from(router)
        .merge(crate::mcp::routes())
        .fallback(async || Refused::new(broker::ErrorCode::ResourceNotFound, "no such path"))
        .method_not_allowed_fallback(async || Refused::verb())
        .with_state(app)
}

/// What every operation shares: the credential, and the one shape of failures.
fn finish(mut document: OpenApi) -> OpenApi {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    if let Some(components) = &mut document.components {
        components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    }
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("POST", &mut item.post),
            ("PUT", &mut item.put),
            ("DELETE", &mut item.delete),
        ];
        for (verb, operation) in operations {
            let Some(operation) = operation else { continue };
            let open = crate::front::is_open_operation(verb, path);
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .build();
            let failure = ResponseBuilder::new()
                .description("The failure, as in docs/ERRORS.md")
                .content("application/problem+json", content)
                .build();
            operation
                .responses
                .responses
                .insert("default".to_owned(), failure.into());
            if !open {
                let none: [String; 0] = [];
                operation.security = Some(vec![SecurityRequirement::new(BEARER, none)]);
            }
        }
    }
    document
}

/// `limit` and `cursor`; the broker checks the bounds.
fn page(query: &mut Query) -> Result<PageRequest, Refused> {
    let limit = query.number("limit")?;
    Ok(PageRequest {
        limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        cursor: query.text("cursor"),
    })
}
