//! The audit chain through the operations: what stands in it, and that nothing is done to it unseen.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::super::audit::{AuditQuery, AuditReport};
use super::{Bench, admin, asker, echo, keyed, tool, write};
use crate::call::CallId;
use crate::error::ErrorCode;
use crate::ledger::{Intent, Settled};
use crate::principal::Role;

/// Runs SQL behind the bridge's back.
async fn tamper(bench: &Bench, sql: &'static str) {
    let mut connection = AnyConnection::connect(&bench.url()).await.unwrap();
    connection.execute(sql).await.unwrap();
}

async fn verify(bench: &Bench) -> AuditReport {
    bench.broker.verify_audit(&admin()).await.unwrap()
}

/// The first bad entry, if any.
async fn fault(bench: &Bench) -> Option<u64> {
    let report = verify(bench).await;
    assert_eq!(report.ok, report.first_bad.is_none());
    report.first_bad.map(|bad| bad.seq)
}

/// A broker after eight audited happenings: reads, a refusal, calls that may act, and an act.
async fn busy() -> Bench {
    let bench = Bench::new().await;
    for number in 0..4 {
        bench.call(echo(&number.to_string())).await.unwrap();
    }
    bench
        .call(tool("fake.nothing", &json!({})))
        .await
        .unwrap_err();
    // Reads are recorded behind their answers; looking at the record writes them first.
    assert!(verify(&bench).await.ok);
    bench.call(write("x")).await.unwrap();
    bench.call(keyed(write("y"), "key-1")).await.unwrap();
    bench
        .broker
        .inner
        .note_action(&admin(), "key_created", "k")
        .await;
    bench
}

#[tokio::test]
async fn everything_done_stands_in_one_chain_that_holds_and_is_signed() {
    let bench = busy().await;
    let report = verify(&bench).await;
    assert!(report.ok, "{report:?}");
    assert_eq!(report.entries, 8);
    let head = report.head.unwrap();
    assert_eq!(head.place.link.seq, 8);
    let page = bench
        .broker
        .list_audit(&admin(), AuditQuery::default())
        .await
        .unwrap();
    let mut seqs: Vec<_> = page.items.iter().map(|entry| entry.seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=8).collect::<Vec<_>>());
    let acted: Vec<_> = page.items.iter().map(|entry| &*entry.executed).collect();
    assert_eq!(
        acted.iter().filter(|word| **word == "no").count(),
        1,
        "the refused one"
    );
    for entry in &page.items {
        let text = serde_json::to_string(entry).unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        let hash = value.as_object_mut().unwrap().remove("hash").unwrap();
        let canonical = serde_json_canonicalizer::to_vec(&value).unwrap();
        let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&canonical).into();
        assert_eq!(hash, catalog::Hash(digest).hex(), "{text}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart_and_a_repeat_is_no_second_entry() {
    let bench = busy().await.restart().await;
    bench.call(keyed(write("y"), "key-1")).await.unwrap();
    bench.call(echo("again")).await.unwrap();
    let report = verify(&bench).await;
    assert!(report.ok, "{report:?}");
    assert_eq!(report.entries, 9);
    bench.stop().await;
}

#[tokio::test]
async fn whatever_is_done_to_a_row_is_found_at_its_number() {
    let bench = busy().await;
    assert_eq!(fault(&bench).await, None);
    let acts = [
        ("UPDATE calls SET user_id = 'eve' WHERE seq = 3", 3),
        ("UPDATE calls SET reference = 'fake.other' WHERE seq = 2", 2),
        ("UPDATE calls SET arguments_digest = 'ff' WHERE seq = 1", 1),
    ];
    for (sql, seq) in acts {
        tamper(&bench, "CREATE TABLE kept AS SELECT * FROM calls").await;
        tamper(&bench, sql).await;
        assert_eq!(fault(&bench).await, Some(seq), "{sql}");
        tamper(&bench, "DELETE FROM calls").await;
        tamper(&bench, "INSERT INTO calls SELECT * FROM kept").await;
        tamper(&bench, "DROP TABLE kept").await;
        assert_eq!(fault(&bench).await, None, "as it was");
    }
    tamper(&bench, "UPDATE actions SET target = 'other'").await;
    assert_eq!(fault(&bench).await, Some(8), "an act");
    tamper(&bench, "DELETE FROM actions").await;
    assert_eq!(fault(&bench).await, Some(8), "the end, which was signed");
    tamper(&bench, "DELETE FROM calls WHERE seq = 4").await;
    assert_eq!(fault(&bench).await, Some(4), "a row removed");
    tamper(
        &bench,
        "UPDATE calls SET state = 'failed', code = 'internal' WHERE seq = 2",
    )
    .await;
    assert_eq!(fault(&bench).await, Some(2), "an outcome");
    bench.stop().await;
}

#[tokio::test]
async fn a_head_nobody_signed_is_found() {
    let bench = busy().await;
    assert_eq!(fault(&bench).await, None);
    tamper(
        &bench,
        "UPDATE audit_heads SET seq = 5, hash = (SELECT hash FROM calls WHERE seq = 5)",
    )
    .await;
    assert_eq!(fault(&bench).await, Some(5));
    bench.stop().await;
}

#[tokio::test]
async fn retention_leaves_a_chain_that_begins_at_a_signed_anchor() {
    let bench = Bench::new().await;
    let store = bench.broker.inner.store.clone();
    for number in 0_u8..6 {
        let (intent, settled) = old(number);
        store.record_call(intent, settled);
    }
    bench.call(echo("new")).await.unwrap();
    assert_eq!(verify(&bench).await.entries, 7);
    assert!(!store.prune(Duration::from_hours(90 * 24)).await.unwrap());
    let report = verify(&bench).await;
    assert!(report.ok, "{report:?}");
    assert_eq!(report.entries, 1);
    let anchors = report
        .places
        .iter()
        .filter(|one| one.place.kind.as_str() == "anchor");
    assert_eq!(
        anchors.map(|one| one.place.link.seq).collect::<Vec<_>>(),
        [6]
    );
    let bench = bench.restart().await;
    bench.call(echo("newer")).await.unwrap();
    assert_eq!(verify(&bench).await.entries, 2);
    tamper(
        &bench,
        "UPDATE audit_heads SET seq = 5 WHERE kind = 'anchor'",
    )
    .await;
    assert_eq!(fault(&bench).await, Some(5));
    bench.stop().await;
}

/// A read of a hundred days ago.
fn old(number: u8) -> (Intent, Settled) {
    let (intent, settled) = super::reads::row("default");
    let at = Utc::now() - TimeDelta::days(100);
    let millis = u64::try_from(at.timestamp_millis()).unwrap();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &[number; 10]).into_uuid();
    let intent = Intent {
        id: CallId(id),
        created_at: at,
        ..intent
    };
    let settled = Settled {
        id: CallId(id),
        ended_at: at,
        ..settled
    };
    (intent, settled)
}

#[tokio::test]
async fn a_row_that_comes_twice_leaves_no_gap() {
    let bench = Bench::new().await;
    let store = bench.broker.inner.store.clone();
    let (intent, settled) = super::reads::row("default");
    store.record_call(intent.clone(), settled.clone());
    store.flush().await;
    store.record_call(intent, settled);
    bench.call(echo("after")).await.unwrap();
    let report = verify(&bench).await;
    assert!(report.ok, "{report:?}");
    assert_eq!((report.entries, store.lost_rows()), (2, 0));
    bench.stop().await;
}

#[tokio::test]
async fn only_admins_see_others_and_verify() {
    let bench = busy().await;
    let bob = asker("bob", Role::Operator);
    super::done(bench.broker.call_tool(&bob, echo("bob")).await).unwrap();
    let of = async |user: Option<&str>| {
        let query = AuditQuery {
            user: user.map(str::to_owned),
            ..AuditQuery::default()
        };
        let page = bench.broker.list_audit(&bob, query).await.unwrap();
        page.items.len()
    };
    assert_eq!(of(None).await, 1);
    assert_eq!(of(Some("bob")).await, 1);
    assert_eq!(of(Some("ann")).await, 0);
    assert_eq!(of(Some("nobody at all")).await, 0);
    let refused = bench.broker.verify_audit(&bob).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    bench.stop().await;
}

#[tokio::test]
async fn entries_are_found_by_user_ref_outcome_and_time_page_by_page() {
    let bench = busy().await;
    let found = async |query: AuditQuery| {
        let (mut query, mut refs) = (query, Vec::new());
        query.page.limit = Some(2);
        loop {
            let page = bench
                .broker
                .list_audit(&admin(), query.clone())
                .await
                .unwrap();
            refs.extend(
                page.items
                    .into_iter()
                    .map(|entry| entry.reference.into_owned()),
            );
            match page.next_cursor {
                Some(next) => query.page.cursor = Some(next),
                None => return refs,
            }
        }
    };
    let any = AuditQuery::default;
    assert_eq!(found(any()).await.len(), 8);
    let by_ref = AuditQuery {
        reference: Some("fake.write".into()),
        ..any()
    };
    assert_eq!(found(by_ref).await, ["fake.write", "fake.write"]);
    let by_code = AuditQuery {
        outcome: Some("tool_not_found".into()),
        ..any()
    };
    assert_eq!(found(by_code).await, ["fake.nothing"]);
    let early = AuditQuery {
        until: Some("2020-01-01T00:00:00Z".into()),
        ..any()
    };
    assert!(found(early).await.is_empty());
    let late = AuditQuery {
        since: Some("2020-01-01T00:00:00Z".into()),
        user: Some("ann".into()),
        ..any()
    };
    assert_eq!(found(late).await.len(), 8);
    bench.stop().await;
}
