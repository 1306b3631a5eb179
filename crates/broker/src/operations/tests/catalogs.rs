//! The catalogue as callers see it: fresh, stale, changed, paged, and limited to what they may see.

use catalog::Kind;

use super::*;
use crate::events::EventKind;
use crate::operations::catalog::{
    CatalogAnswer, CatalogItem, HelpItem, HelpRequest, ListCatalog, ListOffer,
};
use crate::operations::page::PageRequest;
use crate::operations::records::EventQuery;

async fn list(bench: &Bench, request: ListCatalog) -> CatalogAnswer {
    bench.broker.list_catalog(&admin(), request).await.unwrap()
}

fn refs(answer: &CatalogAnswer) -> Vec<String> {
    answer
        .items
        .iter()
        .map(|item| item.entry.reference.to_string())
        .collect()
}

fn search(text: &str) -> ListCatalog {
    ListCatalog {
        queries: vec![text.to_owned()],
        ..ListCatalog::default()
    }
}

fn page(limit: usize, cursor: Option<String>) -> ListCatalog {
    ListCatalog {
        page: PageRequest {
            limit: Some(limit),
            cursor,
        },
        ..ListCatalog::default()
    }
}

#[tokio::test]
async fn the_first_look_lists_and_the_next_ones_do_not() {
    let bench = Bench::new().await;
    let first = list(&bench, ListCatalog::default()).await;
    assert_eq!(refs(&first), ["fake.echo", "fake.write"]);
    assert_eq!(
        (
            first.servers[0].state,
            first.servers[0].tools,
            first.servers[0].era
        ),
        ("ready", 2, Some("legacy"))
    );
    assert!(first.items[0].hints.read_only && !first.items[1].hints.read_only);
    let again = list(&bench, ListCatalog::default()).await;
    assert_eq!(again.catalog_hash, first.catalog_hash);
    assert_eq!(
        bench.broker.catalog_hash(&admin()).await.unwrap(),
        first.catalog_hash
    );
    assert_eq!(bench.fake.lists(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_stamp_is_the_same_until_what_is_shown_changes_or_somebody_else_looks() {
    let bench = Bench::new().await;
    let stamp = async |who: &Asker| bench.broker.catalog_stamp(who).await.unwrap();
    let first = stamp(&admin()).await;
    assert_eq!(stamp(&admin()).await, first);
    assert_ne!(stamp(&asker("ann", Role::Viewer)).await, first);
    assert_ne!(stamp(&asker("bob", Role::Admin)).await, first);
    change_tools(&bench);
    until("the change is seen", async || {
        stamp(&admin()).await != first
    })
    .await;
    assert_ne!(stamp(&admin()).await.hash(), first.hash());
    bench.stop().await;
}

#[tokio::test]
async fn a_search_ranks_and_says_when_nothing_fits() {
    let bench = Bench::new().await;
    let found = list(&bench, search("write down")).await;
    assert_eq!(refs(&found)[0], "fake.write");
    assert!(found.items[0].score.is_some());
    let nothing = list(&bench, search("zebra quantum teapot")).await;
    assert!(nothing.nothing_fits && nothing.items.is_empty());
    bench.stop().await;
}

#[tokio::test]
async fn a_list_goes_on_where_a_page_ended_also_when_it_changed_in_between() {
    let bench = Bench::new().await;
    let first = list(&bench, page(1, None)).await;
    assert_eq!(refs(&first), ["fake.echo"]);
    add(
        &bench.broker,
        "aaa",
        r#"{"transport":"stdio","command":["fake"]}"#,
        &bench.fake,
    );
    list(&bench, ListCatalog::default()).await;
    let second = list(&bench, page(5, first.next_cursor.clone())).await;
    assert_eq!(refs(&second), ["fake.write"]);
    assert_eq!(second.next_cursor, None);
    let other = ListCatalog {
        queries: vec!["echo".to_owned()],
        ..page(5, first.next_cursor)
    };
    for bad in [
        other,
        page(5, Some("garbage".to_owned())),
        page(0, None),
        page(501, None),
    ] {
        let fault = bench.broker.list_catalog(&admin(), bad).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::InvalidRequest);
    }
    bench.stop().await;
}

/// Other tools than before: one changed, one new, one gone.
fn change_tools(bench: &Bench) {
    let schema = json!({"type": "object"});
    bench.fake.set_tools(vec![
        json!({"name": "echo", "description": "Says something else.", "inputSchema": schema}),
        json!({"name": "new", "inputSchema": schema}),
    ]);
}

#[tokio::test]
async fn a_changed_list_is_noticed_and_told() {
    let bench = Bench::new().await;
    list(&bench, ListCatalog::default()).await;
    let changes = EventQuery {
        kinds: vec![EventKind::CatalogChanged],
        ..EventQuery::default()
    };
    let mut events = bench.broker.subscribe(&admin(), changes).await.unwrap();
    change_tools(&bench);
    let told = tokio::time::timeout(PATIENCE, events.next())
        .await
        .unwrap()
        .unwrap();
    let told: Value = serde_json::from_str(told.data().get()).unwrap();
    let wanted = json!({"server": "fake", "added": ["fake.new"], "removed": ["fake.write"], "changed": ["fake.echo"]});
    assert_eq!(told, wanted);
    bench.stop().await;
}

#[tokio::test]
async fn since_gives_what_changed_to_whom_saw_the_old_one_and_the_whole_to_others() {
    let bench = Bench::new().await;
    let before = list(&bench, ListCatalog::default()).await;
    change_tools(&bench);
    until("the change is noticed", || async {
        bench.broker.catalog_hash(&admin()).await.unwrap() != before.catalog_hash
    })
    .await;
    let since = |hash: &str| ListCatalog {
        since: Some(hash.to_owned()),
        ..ListCatalog::default()
    };
    let delta = list(&bench, since(&before.catalog_hash))
        .await
        .delta
        .unwrap();
    let names = |items: &[CatalogItem]| {
        items
            .iter()
            .map(|item| item.entry.reference.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&delta.added), ["fake.new"]);
    assert_eq!(names(&delta.changed), ["fake.echo"]);
    assert_eq!(delta.removed, ["fake.write"]);
    let whole = list(&bench, since("0123456789ab")).await;
    assert!(whole.reset && whole.delta.is_none() && whole.items.len() == 2);
    let bob = asker("bob", Role::Operator);
    let theirs = bench
        .broker
        .list_catalog(&bob, since(&before.catalog_hash))
        .await
        .unwrap();
    assert!(theirs.reset, "a hash that another user saw is unknown");
    bench.stop().await;
}

#[tokio::test]
async fn a_chatty_server_is_listed_at_most_once_a_second() {
    let bench = Bench::new().await;
    list(&bench, ListCatalog::default()).await;
    for _ in 0..30 {
        bench
            .fake
            .push(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    }
    until("it is listed again", || async { bench.fake.lists() >= 2 }).await;
    assert!(bench.fake.lists() <= 3, "{}", bench.fake.lists());
    bench.stop().await;
}

#[tokio::test]
async fn a_session_of_one_call_does_not_cause_listings_without_end() {
    let definition = r#"{"transport":"stdio","command":["fake"],"isolation":"call"}"#;
    let bench = Bench::with(definition, |_| {}).await;
    list(&bench, ListCatalog::default()).await;
    let held = tokio::spawn({
        let broker = bench.broker.clone();
        bench
            .fake
            .behave(transports::testing::Behaviour::Slow(Duration::from_millis(
                300,
            )));
        async move { broker.call_tool(&admin(), echo("x")).await }
    });
    until("the call is sent", || async { bench.fake.calls() == 1 }).await;
    bench
        .fake
        .push(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    held.await.unwrap().unwrap();
    assert_eq!((bench.fake.lists(), bench.fake.opened()), (1, 2));
    until("both sessions are gone", || async {
        bench.broker.inner.sessions.count() == 0
    })
    .await;
    bench.stop().await;
}

#[tokio::test]
async fn after_a_restart_the_kept_catalogue_is_there_marked_stale_until_confirmed() {
    let bench = Bench::with(
        r#"{"transport":"stdio","command":["fake"],"isolation":"shared"}"#,
        |_| {},
    )
    .await;
    let before = list(&bench, ListCatalog::default()).await;
    bench.fake.refuse_connections(true);
    let bench = bench
        .restart_as(r#"{"transport":"stdio","command":["fake"],"isolation":"shared"}"#)
        .await;
    let after = list(&bench, ListCatalog::default()).await;
    assert_eq!(refs(&after), refs(&before));
    assert_eq!(after.catalog_hash, before.catalog_hash);
    assert_eq!(after.servers[0].state, "stale");
    assert!(after.servers[0].stale_since.is_some() && after.items[0].stale);
    let fault = bench
        .call(within(echo("x"), Duration::from_secs(3)))
        .await
        .unwrap_err();
    assert_ne!(
        fault.code,
        ErrorCode::ToolNotFound,
        "the tool is known, only its server is away"
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_server_that_never_answered_is_down_and_says_why() {
    let bench = Bench::with(r#"{"transport":"stdio","command":["fake"]}"#, |options| {
        options.catalog.first_wait = Duration::from_secs(5);
        options.catalog.fetch_timeout = Duration::from_millis(200);
    })
    .await;
    bench.fake.go_deaf(true);
    let answer = list(&bench, ListCatalog::default()).await;
    assert!(answer.items.is_empty());
    assert_eq!(answer.servers[0].state, "down");
    assert!(answer.servers[0].last_error.is_some());
    bench.stop().await;
}

#[tokio::test]
async fn a_slow_server_does_not_hold_up_the_others() {
    let bench = Bench::with(r#"{"transport":"stdio","command":["fake"]}"#, |options| {
        options.catalog.first_wait = Duration::from_millis(300);
    })
    .await;
    let deaf = FakeServer::legacy();
    deaf.go_deaf(true);
    add(
        &bench.broker,
        "deaf",
        r#"{"transport":"stdio","command":["fake"]}"#,
        &deaf,
    );
    let answer = list(&bench, ListCatalog::default()).await;
    assert_eq!(refs(&answer), ["fake.echo", "fake.write"]);
    let states: Vec<_> = answer.servers.iter().map(|server| server.state).collect();
    assert_eq!(states, ["opening", "ready"]);
    bench.stop().await;
}

#[tokio::test]
async fn a_viewer_lists_only_what_it_may_call() {
    let bench = Bench::new().await;
    let viewer = asker("vic", Role::Viewer);
    let answer = bench
        .broker
        .list_catalog(&viewer, ListCatalog::default())
        .await
        .unwrap();
    assert_eq!(refs(&answer), ["fake.echo"]);
    let mut narrow = admin();
    narrow.principal.scopes = Scopes(vec!["other.*".to_owned()]);
    let answer = bench
        .broker
        .list_catalog(&narrow, ListCatalog::default())
        .await
        .unwrap();
    assert!(answer.items.is_empty() && answer.servers.is_empty());
    bench.stop().await;
}

async fn help(
    bench: &Bench,
    refs: &[&str],
    if_hash: &[String],
) -> Result<Vec<HelpItem>, BrokerError> {
    let request = HelpRequest {
        refs: refs.iter().map(|text| (*text).to_owned()).collect(),
        if_hash: if_hash.to_vec(),
    };
    bench.broker.get_tool_help(&admin(), request).await
}

#[tokio::test]
async fn help_gives_the_whole_definition_and_leaves_out_what_the_caller_has() {
    let bench = Bench::new().await;
    let items = help(&bench, &["fake.echo", "fake.ecko"], &[])
        .await
        .unwrap();
    let HelpItem::Tool(found) = &items[0] else {
        panic!("a known tool is explained");
    };
    assert_eq!(found.description.as_deref(), Some("Says it again."));
    assert!(
        found
            .input_schema
            .as_ref()
            .unwrap()
            .get()
            .contains("message")
    );
    assert_eq!(found.example, json!({"message": "text"}));
    let HelpItem::Missing { near, .. } = &items[1] else {
        panic!("an unknown one is missing");
    };
    assert_eq!(near[0], "fake.echo");
    let known = [found.item.entry.hash.short()];
    let again = help(&bench, &["fake.echo"], &known).await.unwrap();
    assert!(matches!(again[0], HelpItem::Unchanged { .. }));
    let none = help(&bench, &["fake.ecko"], &[]).await.unwrap_err();
    assert_eq!(none.code, ErrorCode::ToolNotFound);
    let many = help(&bench, &["fake.echo"; 21], &[]).await.unwrap_err();
    assert_eq!(many.code, ErrorCode::InvalidRequest);
    bench.stop().await;
}

#[tokio::test]
async fn a_tool_whose_schema_cannot_be_used_is_listed_and_refused() {
    let bench = Bench::new().await;
    let wild =
        json!({"type": "object", "properties": {"a": {"$ref": "https://example.com/schema.json"}}});
    bench.fake.set_tools(vec![
        json!({"name": "wild", "inputSchema": wild}),
        json!({"name": "tame", "inputSchema": {"type": "object"}}),
    ]);
    assert_eq!(refs(&list(&bench, ListCatalog::default()).await).len(), 2);
    let fault = bench
        .call(tool("fake.wild", &json!({"a": 1})))
        .await
        .unwrap_err();
    assert_eq!(
        ends(&fault),
        (ErrorCode::UnsupportedSchema, ExecutedWire::No)
    );
    bench
        .call(tool("fake.tame", &json!({"message": "x"})))
        .await
        .unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn lists_of_one_kind_hold_that_kind_of_the_servers_there_are() {
    let bench = Bench::new().await;
    for kind in [Kind::Resource, Kind::Template, Kind::Prompt] {
        let kinds = ListCatalog {
            kinds: vec![kind],
            ..ListCatalog::default()
        };
        assert!(list(&bench, kinds).await.items.is_empty());
    }
    let nowhere = ListOffer {
        server: Some("fakee".to_owned()),
        page: PageRequest::default(),
    };
    let fault = bench
        .broker
        .list_resources(&admin(), nowhere)
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::ServerNotFound);
    assert_eq!(fault.hint.as_deref(), Some("did you mean fake?"));
    bench.stop().await;
}
