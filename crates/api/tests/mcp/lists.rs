//! Lists through HTTP: whose they are, for how long they are fresh, and servers that tell them in pages.

use serde_json::{Value, json};

use crate::client::{Legacy, Modern, servers};
use crate::kit::{Bridge, eventually};
use crate::upstream::{Era, Listing, Upstream};

async fn bridge(era: Era, listing: Listing) -> (Upstream, Bridge) {
    let upstream = Upstream::start(era).await;
    upstream.list_as(listing);
    let definition = upstream.definition(", isolation: user");
    let bridge = Bridge::start(&servers(&[("fake", definition)])).await;
    (upstream, bridge)
}

fn numbered(fresh: (u64, &'static str)) -> Listing {
    Listing {
        fresh: Some(fresh),
        numbered: true,
        ..Listing::default()
    }
}

/// The number of the upstream list a client was told.
fn number(list: &Value) -> String {
    let tools = list["result"]["tools"].as_array().unwrap();
    let mut names = tools.iter().filter_map(|tool| tool["name"].as_str());
    let name = names.find(|name| name.starts_with("list_"));
    name.unwrap_or_else(|| panic!("{list}")).to_owned()
}

#[tokio::test]
async fn a_private_list_is_one_users_own() {
    let (_upstream, bridge) = bridge(Era::Modern, numbered((600_000, "private"))).await;
    let ann = format!("Bearer {}", bridge.key_of("ann", "operator").await);
    let client = Modern::new(&bridge, "/mcp/fake", json!({}));
    let mine = number(&client.answer(1, "tools/list", json!({})).await);
    let ask = (2, "tools/list", json!({}));
    let mut theirs = client.with(&[("authorization", &ann)], ask.clone()).await;
    let theirs = number(&theirs.answer().await);
    assert_ne!(mine, theirs, "each has a list of their own");
    let again = number(&client.answer(3, "tools/list", json!({})).await);
    assert_eq!(mine, again, "it is fresh");
    let mut again = client.with(&[("authorization", &ann)], ask).await;
    assert_eq!(theirs, number(&again.answer().await));
    bridge.stop().await;
}

#[tokio::test]
async fn a_list_is_told_as_fresh_for_what_is_left_and_asked_for_again_after() {
    let (upstream, bridge) = bridge(Era::Modern, numbered((600_000, "private"))).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({}));
    let first = number(&client.answer(1, "tools/list", json!({})).await);
    eventually("its age is taken off", || async {
        let list = client.answer(2, "tools/list", json!({})).await;
        assert_eq!(number(&list), first);
        let left = list["result"]["ttlMs"].as_u64().unwrap();
        (0..600_000).contains(&left).then_some(())
    })
    .await;
    bridge.stop().await;
    drop(upstream);

    let (upstream, bridge) = self::bridge(Era::Modern, numbered((1000, "private"))).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({}));
    let first = number(&client.answer(1, "tools/list", json!({})).await);
    eventually("it is listed again", || async {
        let list = client.answer(2, "tools/list", json!({})).await;
        (number(&list) != first).then_some(())
    })
    .await;
    assert!(upstream.count("tools/list") >= 2);
    bridge.stop().await;
}

#[tokio::test]
async fn a_list_told_in_pages_is_whole() {
    for era in [Era::Legacy, Era::Modern] {
        let paged = Listing {
            paged: true,
            ..Listing::default()
        };
        let (upstream, bridge) = bridge(era, paged).await;
        let modern = Modern::new(&bridge, "/mcp/fake", json!({}));
        let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        for list in [
            modern.answer(1, "tools/list", json!({})).await,
            legacy.answer(1, "tools/list", json!({})).await,
        ] {
            let names = list["result"]["tools"].as_array().unwrap();
            let has = |name: &str| names.iter().any(|tool| tool["name"] == name);
            assert!(has("echo") && has("add"), "{era:?}: {list}");
            assert!(list["result"]["nextCursor"].is_null(), "{list}");
        }
        assert_eq!(upstream.last("tools/list").unwrap()["cursor"], "3");
        bridge.stop().await;
    }
}
