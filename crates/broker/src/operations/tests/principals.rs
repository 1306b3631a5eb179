//! Users, keys and workspaces: made by admins of the first workspace, gone at once when revoked.

use secrecy::ExposeSecret as _;

use super::*;
use crate::operations::api_keys::{CreateKey, FreshKey};
use crate::operations::page::PageRequest;

/// The first admin, a workspace `team`, its operator `bob` and his key.
async fn team(broker: &Broker) -> (Asker, FreshKey) {
    let first = broker.ensure_admin().await.unwrap().unwrap();
    let root = broker.authenticate(first.expose_secret(), None).await;
    let root = Asker::new(root.unwrap());
    let team = WorkspaceId::new("team").unwrap();
    broker.create_workspace(&root, team.clone()).await.unwrap();
    let bob = UserId::new("bob").unwrap();
    let roles = vec![(team, vec![Role::Operator])];
    broker.create_user(&root, bob.clone(), roles).await.unwrap();
    let request = CreateKey {
        user: bob,
        workspaces: Vec::new(),
        scopes: Vec::new(),
        expires_in: None,
        name: None,
    };
    let fresh = broker.create_key(&root, request).await.unwrap();
    (root, fresh)
}

#[tokio::test]
async fn the_first_admin_is_made_once_and_a_workspace_too() {
    let bench = Bench::new().await;
    let (root, _) = team(&bench.broker).await;
    assert!(bench.broker.ensure_admin().await.unwrap().is_none());
    let again = bench
        .broker
        .create_workspace(&root, WorkspaceId::new("team").unwrap())
        .await;
    assert_eq!(again.unwrap_err().code, ErrorCode::Conflict);
    let nowhere = vec![(WorkspaceId::new("nowhere").unwrap(), vec![Role::Viewer])];
    let user = UserId::new("cem").unwrap();
    let fault = bench
        .broker
        .create_user(&root, user, nowhere)
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::ResourceNotFound);
    bench.stop().await;
}

#[tokio::test]
async fn keys_open_their_users_workspaces_until_they_are_revoked() {
    let bench = Bench::new().await;
    let broker = &bench.broker;
    let (root, fresh) = team(broker).await;
    let token = fresh.token.expose_secret();
    assert!(token.starts_with(&fresh.view.prefix));
    let principal = broker.authenticate(token, None).await.unwrap();
    assert_eq!(principal.workspace.as_str(), "team");
    assert_eq!(principal.roles, [Role::Operator]);
    let elsewhere = broker
        .authenticate(token, Some("default"))
        .await
        .unwrap_err();
    assert_eq!(elsewhere.code, ErrorCode::ResourceNotFound);
    broker.revoke_key(&root, &fresh.view.key_id).await.unwrap();
    let revoked = broker.authenticate(token, None).await.unwrap_err();
    let unknown = broker.authenticate("pb_x_y", None).await.unwrap_err();
    assert_eq!(format!("{revoked:?}"), format!("{unknown:?}"));
    bench.stop().await;
}

#[tokio::test]
async fn whoever_is_no_admin_sees_and_revokes_only_own_keys() {
    let bench = Bench::new().await;
    let broker = &bench.broker;
    let (root, fresh) = team(broker).await;
    let bob = Asker::new(
        broker
            .authenticate(fresh.token.expose_secret(), None)
            .await
            .unwrap(),
    );
    let users = broker
        .list_users(&bob, PageRequest::default())
        .await
        .unwrap_err();
    assert_eq!(users.code, ErrorCode::Forbidden);
    assert_eq!(
        broker
            .list_keys(&bob, PageRequest::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    let all = broker
        .list_keys(&root, PageRequest::default())
        .await
        .unwrap();
    let foreign = all
        .items
        .iter()
        .find(|key| key.user != fresh.view.user)
        .unwrap();
    let fault = broker.revoke_key(&bob, &foreign.key_id).await.unwrap_err();
    let unknown = broker.revoke_key(&bob, "nothing").await.unwrap_err();
    assert_eq!(format!("{fault:?}"), format!("{unknown:?}"));
    broker.revoke_key(&bob, &fresh.view.key_id).await.unwrap();
    bench.stop().await;
}
