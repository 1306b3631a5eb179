//! Against a server that is a function from request to answer, as the protocol is.

use std::cell::RefCell;

use super::*;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn refusal(code: i64) -> RequestError {
    RequestError::Rpc {
        code,
        message: "no".to_owned(),
        data: None,
    }
}

/// Asks a server for everything; gives the listing and the methods that were asked for, with cursors.
async fn listed(
    capabilities: &str,
    server: impl Fn(&str, Option<&str>) -> Result<String, RequestError>,
) -> (Result<Listing, FetchError>, Vec<String>) {
    let asked = RefCell::new(Vec::new());
    let timeout = Duration::from_secs(5);
    let ask = Ask {
        offered: Offered::of(capabilities),
        deadline: Instant::now() + timeout,
        timeout,
    };
    let listing = ask
        .everything(async |request: Request| {
            assert!(request.repeatable && request.timeout <= timeout);
            let cursor = request
                .params
                .0
                .first()
                .map(|(_, value)| value.get().trim_matches('"').to_owned());
            asked.borrow_mut().push(format!(
                "{} {}",
                request.method,
                cursor.as_deref().unwrap_or("-")
            ));
            server(&request.method, cursor.as_deref()).map(|text| raw(&text))
        })
        .await;
    (listing, asked.into_inner())
}

#[tokio::test]
async fn pages_are_followed_to_the_end_and_only_what_is_offered_is_asked_for() {
    let (listing, asked) = listed(r#"{"tools":{}}"#, |_, cursor| {
        Ok(match cursor {
            None => r#"{"tools":[{"name":"a"},{"name":"b"}],"nextCursor":"2","ttlMs":900,"cacheScope":"public"}"#,
            Some(_) => r#"{"tools":[{"name":"c","x-odd": 1.50}],"nextCursor":"","ttlMs":500,"cacheScope":"public"}"#,
        }
        .to_owned())
    })
    .await;
    let listing = listing.unwrap();
    assert_eq!(asked, ["tools/list -", "tools/list 2"]);
    assert_eq!(listing.tools.len(), 3);
    assert_eq!(listing.tools[2].get(), r#"{"name":"c","x-odd": 1.50}"#);
    assert_eq!(
        (listing.ttl_ms, listing.public, listing.truncated),
        (Some(500), true, None)
    );
}

#[tokio::test]
async fn a_repeating_cursor_ends_the_list_and_is_told() {
    let (listing, asked) = listed(r#"{"tools":{}}"#, |_, _| {
        Ok(r#"{"tools":[{"name":"a"}],"nextCursor":"again"}"#.to_owned())
    })
    .await;
    assert_eq!(asked.len(), 2);
    assert!(listing.unwrap().truncated.unwrap().contains("repeat"));
}

#[tokio::test]
async fn endless_pages_are_cut_at_the_cap_and_private_unless_every_page_is_public() {
    let (listing, asked) = listed(r#"{"tools":{}}"#, |_, cursor| {
        let next = cursor.map_or(0, |cursor| cursor.parse::<usize>().unwrap()) + 1;
        Ok(format!(
            r#"{{"tools":[],"nextCursor":"{next}"{}}}"#,
            if next == 7 {
                ""
            } else {
                r#","cacheScope":"public""#
            }
        ))
    })
    .await;
    let listing = listing.unwrap();
    assert_eq!(asked.len(), MAX_PAGES);
    assert!(listing.truncated.unwrap().contains("1000 pages"));
    assert!(!listing.public);
}

#[tokio::test]
async fn a_server_that_declares_nothing_is_asked_for_all_and_may_refuse_all() {
    let (listing, asked) = listed("{}", |_, _| Err(refusal(METHOD_NOT_FOUND))).await;
    let listing = listing.unwrap();
    assert_eq!(asked.len(), 4);
    assert!(listing.tools.is_empty() && listing.truncated.is_none() && !listing.public);
}

#[tokio::test]
async fn failing_prompts_do_not_cost_the_tools_but_failing_tools_fail() {
    let capabilities = r#"{"tools":{},"prompts":{},"resources":null}"#;
    let (listing, _) = listed(capabilities, |method, _| match method {
        "tools/list" => Ok(r#"{"tools":[{"name":"a"}]}"#.to_owned()),
        _ => Err(refusal(-32_603)),
    })
    .await;
    let listing = listing.unwrap();
    assert_eq!(listing.tools.len(), 1);
    assert_eq!(
        listing.truncated.as_deref(),
        Some("prompts/list answered error -32603")
    );

    let (failed, _) = listed(capabilities, |_, _| Err(refusal(-32_603))).await;
    assert!(matches!(
        failed,
        Err(FetchError::Request(RequestError::Rpc { code: -32_603, .. }))
    ));
    let (malformed, _) = listed(capabilities, |_, _| Ok(r#"{"tools":{}}"#.to_owned())).await;
    assert!(matches!(malformed, Err(FetchError::Malformed { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_whole_has_one_deadline() {
    let timeout = Duration::from_secs(5);
    let began = Instant::now();
    let ask = Ask {
        offered: Offered::of(r#"{"tools":{}}"#),
        deadline: began + timeout,
        timeout,
    };
    let pages = RefCell::new(0_u64);
    let listing = ask
        .everything(async |_| {
            tokio::time::sleep(Duration::from_secs(2)).await;
            *pages.borrow_mut() += 1;
            Ok(raw(&format!(
                r#"{{"tools":[],"nextCursor":"{}"}}"#,
                pages.borrow()
            )))
        })
        .await;
    assert!(matches!(
        listing,
        Err(FetchError::Request(RequestError::Timeout { .. }))
    ));
    assert_eq!(began.elapsed(), timeout);
}
