//! Definitions over the API: who may write them, their versions, and what a test finds.

use transports::ServerName;

use super::*;
use crate::definition::Definition;
use crate::operations::audit::AuditQuery;
use crate::operations::page::PageRequest;
use crate::operations::servers::IfMatch;

fn definition(json: &str) -> Definition {
    serde_json::from_str(json).unwrap()
}

fn stdio(program: &str) -> Definition {
    definition(&format!(
        r#"{{"transport":"stdio","command":["{program}"]}}"#
    ))
}

fn http() -> Definition {
    definition(r#"{"transport":"streamable_http","url":"https://example.com/mcp"}"#)
}

#[tokio::test]
async fn versions_are_immutable_and_every_change_names_the_one_it_is_based_on() {
    let bench = Bench::new().await;
    let (broker, ann) = (&bench.broker, admin());
    let first = broker
        .put_server(&ann, "s", stdio("one"), IfMatch::Absent)
        .await
        .unwrap();
    assert_eq!((first.version, first.source), (1, "api"));
    let exists = broker
        .put_server(&ann, "s", stdio("two"), IfMatch::Absent)
        .await
        .unwrap_err();
    assert_eq!(exists.code, ErrorCode::Conflict);
    let stale = broker
        .put_server(&ann, "s", stdio("two"), IfMatch::Version(7))
        .await
        .unwrap_err();
    assert_eq!(stale.code, ErrorCode::VersionConflict);
    let second = broker
        .put_server(&ann, "s", stdio("two"), IfMatch::Version(1))
        .await
        .unwrap();
    assert_eq!(second.version, 2);
    let changes = broker.diff_server(&ann, "s", (1, 2)).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].pointer.as_str(), changes[0].to.clone()),
        ("/command", Some(json!(["two"])))
    );
    let back = broker
        .rollback_server(&ann, "s", 1, IfMatch::Any)
        .await
        .unwrap();
    assert_eq!((back.version, back.definition), (3, stdio("one")));
    let versions = broker.list_server_versions(&ann, "s").await.unwrap();
    let numbers: Vec<_> = versions.iter().map(|one| one.version).collect();
    assert_eq!(numbers, [3, 2, 1]);
    let unknown = broker
        .rollback_server(&ann, "s", 9, IfMatch::Any)
        .await
        .unwrap_err();
    assert_eq!(unknown.code, ErrorCode::ServerNotFound);
    let acts = broker
        .list_audit(&ann, AuditQuery::default())
        .await
        .unwrap();
    assert_eq!(
        acts.items
            .iter()
            .filter(|act| act.action == "server_saved")
            .count(),
        3
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_deleted_server_is_gone_also_after_a_restart_and_its_name_goes_on_counting() {
    let bench = Bench::new().await;
    let ann = admin();
    bench
        .broker
        .put_server(&ann, "s", stdio("one"), IfMatch::Absent)
        .await
        .unwrap();
    bench
        .broker
        .put_server(&ann, "kept", stdio("one"), IfMatch::Absent)
        .await
        .unwrap();
    bench
        .broker
        .delete_server(&ann, "s", IfMatch::Version(1))
        .await
        .unwrap();
    let bench = bench.restart().await;
    assert_eq!(
        bench.broker.get_server(&ann, "s").await.unwrap_err().code,
        ErrorCode::ServerNotFound
    );
    assert_eq!(
        bench.broker.get_server(&ann, "kept").await.unwrap().version,
        1
    );
    let again = bench
        .broker
        .put_server(&ann, "s", stdio("two"), IfMatch::Absent)
        .await
        .unwrap();
    assert_eq!(again.version, 3);
    bench.stop().await;
}

#[tokio::test]
async fn commands_are_for_admins_urls_for_operators_and_nothing_for_viewers() {
    let bench = Bench::new().await;
    let operator = asker("opa", Role::Operator);
    let viewer = asker("vic", Role::Viewer);
    let broker = &bench.broker;
    let refused = broker
        .put_server(&operator, "s", stdio("sh"), IfMatch::Absent)
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert_eq!(
        broker
            .test_server(&operator, "s", Some(stdio("sh")))
            .await
            .unwrap_err()
            .code,
        ErrorCode::Forbidden
    );
    assert_eq!(
        broker
            .put_server(&viewer, "s", http(), IfMatch::Absent)
            .await
            .unwrap_err()
            .code,
        ErrorCode::Forbidden
    );
    assert_eq!(
        broker
            .test_server(&viewer, "fake", None)
            .await
            .unwrap_err()
            .code,
        ErrorCode::Forbidden
    );
    broker
        .put_server(&operator, "s", http(), IfMatch::Absent)
        .await
        .unwrap();
    let swap = broker
        .put_server(&operator, "fake", http(), IfMatch::Any)
        .await
        .unwrap_err();
    assert_eq!(
        swap.code,
        ErrorCode::Forbidden,
        "a server with a command is changed by admins only"
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_definition_with_a_literal_secret_is_refused_by_place() {
    let bench = Bench::new().await;
    let literal = r#"{"transport":"streamable_http","url":"https://example.com/","headers":{"Authorization":"Bearer abc"}}"#;
    let fault = bench
        .broker
        .put_server(&admin(), "s", definition(literal), IfMatch::Absent)
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::InvalidArguments);
    assert_eq!(fault.errors[0].pointer, "/definition/headers/Authorization");
    assert!(!format!("{fault:?}").contains("abc"));
    let name = bench
        .broker
        .put_server(&admin(), "Bad.Name", http(), IfMatch::Absent)
        .await
        .unwrap_err();
    assert_eq!(name.errors[0].pointer, "/name");
    bench.stop().await;
}

#[tokio::test]
async fn servers_of_the_file_are_changed_in_the_file() {
    let bench = Bench::new().await;
    let file = [(ServerName::new("fixed").unwrap(), stdio("one"))];
    let applied = bench.broker.apply_file(file.clone().into()).await.unwrap();
    assert_eq!(applied.added, ["fixed"]);
    let change = bench
        .broker
        .put_server(&admin(), "fixed", stdio("two"), IfMatch::Any)
        .await
        .unwrap_err();
    assert_eq!(change.code, ErrorCode::Conflict);
    let delete = bench
        .broker
        .delete_server(&admin(), "fixed", IfMatch::Any)
        .await
        .unwrap_err();
    assert_eq!(delete.code, ErrorCode::Conflict);
    let applied = bench.broker.apply_file(file.into()).await.unwrap();
    assert_eq!(applied, crate::operations::servers::Applied::default());
    let listed = bench
        .broker
        .list_servers(&admin(), PageRequest::default())
        .await
        .unwrap();
    let sources: Vec<_> = listed
        .items
        .iter()
        .map(|one| (one.name.as_str(), one.source))
        .collect();
    assert_eq!(sources, [("fake", "api"), ("fixed", "file")]);
    bench.stop().await;
}

#[tokio::test]
async fn a_test_opens_and_lists_and_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let report = bench
        .broker
        .test_server(&admin(), "fake", None)
        .await
        .unwrap();
    assert!(
        report.ok && report.tools == 2 && report.era == Some("legacy"),
        "{report:?}"
    );
    until("its session is closed", || async {
        bench.broker.inner.sessions.list().is_empty()
    })
    .await;
    assert_eq!(bench.fake.calls(), 0);
    let gone = stdio("/nonexistent/paperbot-test-program");
    let report = bench
        .broker
        .test_server(&admin(), "new", Some(gone))
        .await
        .unwrap();
    assert!(!report.ok);
    assert_eq!(report.fault.unwrap().code, ErrorCode::UpstreamUnreachable);
    bench.stop().await;
}
