//! Keys that were verified once: what they cost, and when they end.

use secrecy::ExposeSecret as _;
use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::*;
use crate::access::Credential;
use crate::keys::KeyWish;

/// Time goes by; everything else stands still meanwhile.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn key(bench: &Bench) -> (String, String) {
    let keys = &bench.broker.inner.keys;
    keys.ensure_admin().await.unwrap();
    let admin = UserId::new("admin").unwrap();
    let fresh = keys.create(&admin, KeyWish::default()).await.unwrap();
    (fresh.key_id, fresh.key.expose_secret().to_owned())
}

#[tokio::test]
async fn a_key_in_use_is_not_read_again_and_again() {
    let bench = Bench::new().await;
    let (key_id, token) = key(&bench).await;
    bench.broker.authenticate(&token, None).await.unwrap();
    // Nothing of the bridge does this: whoever reads the key now would miss it.
    let mut connection = AnyConnection::connect(&bench.url()).await.unwrap();
    connection
        .execute(sqlx::AssertSqlSafe(format!(
            "DELETE FROM api_keys WHERE id = '{key_id}'"
        )))
        .await
        .unwrap();
    for _ in 0..3 {
        later(Duration::from_secs(2)).await;
        bench.broker.authenticate(&token, None).await.unwrap();
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_key_revoked_by_another_node_ends_within_a_second() {
    let bench = Bench::new().await;
    let (key_id, token) = key(&bench).await;
    bench.broker.authenticate(&token, None).await.unwrap();
    let elsewhere = Store::open(&bench.url()).await.unwrap();
    assert!(elsewhere.revoke_key(&key_id).await.unwrap());
    later(Duration::from_millis(1001)).await;
    let fault = bench.broker.authenticate(&token, None).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unauthenticated);
    elsewhere.shutdown().await;
    bench.stop().await;
}

#[tokio::test]
async fn whoever_holds_a_stream_hears_of_a_key_another_node_revoked_and_of_nothing_else() {
    let bench = Bench::new().await;
    let (key_id, token) = key(&bench).await;
    let credential = Credential::Token(token.into());
    let held = bench.broker.admit(&credential, None).await.unwrap();
    let broker = bench.broker.clone();
    let mut lost = tokio::spawn(async move { broker.until_lost(credential, held).await });
    let elsewhere = Store::open(&bench.url()).await.unwrap();
    // Another's rights change: asked anew, and nothing is lost.
    let bob = UserId::new("bob").unwrap();
    elsewhere.put_user(&bob, &[]).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(1500), &mut lost).await;
    assert!(early.is_err());
    assert!(elsewhere.revoke_key(&key_id).await.unwrap());
    tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
    elsewhere.shutdown().await;
    bench.stop().await;
}

#[tokio::test]
async fn a_key_goes_on_while_the_store_is_away_until_it_is_revoked() {
    let bench = Bench::new().await;
    let (_, token) = key(&bench).await;
    bench.broker.authenticate(&token, None).await.unwrap();
    bench.broker.inner.store.shutdown().await;
    later(Duration::from_secs(2)).await;
    bench.broker.authenticate(&token, None).await.unwrap();
    bench.broker.inner.keys.forget_all();
    let fault = bench.broker.authenticate(&token, None).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::StoreUnavailable);
    bench.stop().await;
}
