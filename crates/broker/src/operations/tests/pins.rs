//! Pins through the operations: who is pinned when, for whom, and what a quarantine lets through.

use super::*;
use crate::operations::page::PageRequest;

fn defined(name: &str, description: &str, read_only: bool) -> Value {
    json!({
        "name": name, "description": description,
        "inputSchema": {"type": "object", "properties": {"message": {"type": "string"}}},
        "annotations": {"readOnlyHint": read_only},
    })
}

/// Waits until the broker knows what the server offers now.
async fn noticed(bench: &Bench, reference: &str, state: &str) {
    until("the new definition is known", || async {
        let who = admin();
        let pins = bench.broker.list_pins(&who, "fake", PageRequest::default());
        let pins = pins.await.unwrap();
        pins.items
            .iter()
            .any(|one| one.reference == reference && one.state == state)
    })
    .await;
}

#[tokio::test]
async fn what_only_reads_may_be_called_while_it_is_quarantined_and_what_acts_may_not() {
    let bench = Bench::new().await;
    bench.fake.set_tools(vec![
        defined("echo", "a", true),
        defined("write", "a", false),
    ]);
    bench.call(echo("x")).await.unwrap();
    bench.call(write("x")).await.unwrap();
    bench.fake.set_tools(vec![
        defined("echo", "b", true),
        defined("write", "b", true),
    ]);
    noticed(&bench, "fake.write", "changed").await;
    bench.call(echo("x")).await.unwrap();
    let fault = bench.call(write("x")).await.unwrap_err();
    assert_eq!(ends(&fault), (ErrorCode::ToolQuarantined, ExecutedWire::No));
    let places: Vec<_> = fault.errors.iter().map(|one| &*one.pointer).collect();
    assert_eq!(places, ["/description", "/annotations/readOnlyHint"]);
    assert_eq!(bench.fake.calls(), 3);
    // Whoever was read-only and admits to act is no safer.
    bench.fake.set_tools(vec![defined("echo", "a", false)]);
    noticed(&bench, "fake.write", "gone").await;
    let fault = bench.call(echo("x")).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::ToolQuarantined);
    // What was approved is good again as soon as it is back.
    bench.fake.set_tools(vec![defined("echo", "a", true)]);
    noticed(&bench, "fake.echo", "pinned").await;
    bench.call(echo("x")).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn only_an_admin_approves_and_only_what_was_read() {
    let bench = Bench::new().await;
    bench.fake.set_tools(vec![defined("write", "a", false)]);
    bench.call(write("x")).await.unwrap();
    bench.fake.set_tools(vec![defined("write", "b", false)]);
    noticed(&bench, "fake.write", "changed").await;
    let who = admin();
    let pins = bench.broker.list_pins(&who, "fake", PageRequest::default());
    let pins = pins.await.unwrap().items;
    let hash = pins[0].hash.clone().unwrap();
    let approve = async |who: Asker, hash: String| {
        let approved = bench.broker.approve_pin(&who, "fake", "fake.write", &hash);
        approved.await.map_err(|fault| fault.code)
    };
    let operator = asker("olga", Role::Operator);
    assert_eq!(
        approve(operator, hash.clone()).await.unwrap_err(),
        ErrorCode::Forbidden
    );
    let old = pins[0].pinned_hash.clone().unwrap();
    for wrong in [old, hash[..8].to_owned(), String::new()] {
        assert_eq!(
            approve(admin(), wrong).await.unwrap_err(),
            ErrorCode::SchemaChanged
        );
    }
    let view = approve(admin(), hash.to_ascii_uppercase()).await.unwrap();
    assert_eq!(
        (view.state, view.approved_by.as_deref()),
        ("pinned", Some("ann"))
    );
    bench.call(write("x")).await.unwrap();
    bench.stop().await;
}
