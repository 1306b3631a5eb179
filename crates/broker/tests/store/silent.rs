//! A PostgreSQL that accepts connections and says nothing: everything ends in time, and goes on afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use broker::ledger::Settled;
use broker::store::{Store, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::places::{drop_place, intent, places, succeeded, workspace};

/// Far more than the two seconds of the contract, and far less than for ever: machines are busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to a database that can fall silent: connections stay, and nothing passes.
struct Way {
    address: SocketAddr,
    silent: watch::Sender<bool>,
}

impl Way {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = watch::Sender::new(false);
        let hears = silent.subscribe();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(near, target.clone(), hears.clone()));
            }
        });
        Self { address, silent }
    }
}

async fn carry(near: TcpStream, target: String, silent: watch::Receiver<bool>) {
    let far = TcpStream::connect(target).await.unwrap();
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::join!(
        pass(near_in, far_out, silent.clone()),
        pass(far_in, near_out, silent)
    );
}

async fn pass(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut silent: watch::Receiver<bool>,
) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut bytes).await {
        if count == 0 || silent.wait_for(|silent| !silent).await.is_err() {
            break;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it never ended")
}

#[tokio::test]
async fn a_listener_that_never_speaks_is_no_store() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://postgres@{}/x", listener.local_addr().unwrap());
    let error = in_time(Store::open(&url)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_database_that_falls_silent_is_unavailable_and_goes_on_when_it_speaks_again() {
    let [_, postgres]: [_; 2] = places().await.try_into().ok().unwrap();
    let (server, name) = postgres.url.rsplit_once('/').unwrap();
    let (_, address) = server.rsplit_once('@').unwrap();
    let way = Way::to(address.to_owned()).await;
    let store = Store::open(&format!("postgres://postgres@{}/{name}", way.address))
        .await
        .unwrap();
    let before = intent(Some("before"));
    assert!(store.begin_call(&before).await.unwrap());

    way.silent.send_replace(true);
    in_time(store.begin_call(&intent(Some("k"))))
        .await
        .unwrap_err();
    in_time(store.ping()).await.unwrap_err();
    in_time(store.settle_call(before.clone(), &succeeded(&before)))
        .await
        .unwrap_err();
    in_time(store.get_call(&workspace(), before.id))
        .await
        .unwrap_err();
    in_time(store.users()).await.unwrap_err();
    let behind = intent(None);
    store.record_call(
        behind.clone(),
        Settled {
            result: None,
            ..succeeded(&behind)
        },
    );
    in_time(store.flush()).await;

    way.silent.send_replace(false);
    // Left alone for a moment, then asked again.
    in_time(async {
        while store.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while store
            .get_call(&workspace(), behind.id)
            .await
            .unwrap()
            .is_none()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    // The refused intent holds its key no longer, whether its commit came through or not.
    in_time(async {
        while !store.begin_call(&intent(Some("k"))).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(
        in_time(store.settle_call(before.clone(), &succeeded(&before)))
            .await
            .unwrap()
    );
    in_time(store.shutdown()).await;
    drop_place(postgres).await;
}
