//! A line between an agent and its bridge that a test can break: cut with RST, stalled, or swallowing all it is given.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes carried at once.
const PIECE_BYTES: usize = 16 * 1024;

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// They are carried.
    Fair,
    /// They wait: nothing is read, so both sides feel it once their buffers are full.
    Stalled,
    /// They vanish, as behind a router that forgot the connection. It must be cut after that: a stream with a hole
    /// in it is nothing TCP would ever deliver.
    Swallowing,
}

#[derive(Debug, Clone, Copy)]
struct Order {
    weather: Weather,
    cuts: u64,
}

/// The line. Its listener ends when dropped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    target: Arc<Mutex<String>>,
    order: watch::Sender<Order>,
    listening: JoinHandle<()>,
}

impl Gate {
    /// Listens on a port of its own, and leads nowhere yet.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn open() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr();
        let target = Arc::<Mutex<String>>::default();
        let (order, orders) = watch::channel(Order {
            weather: Weather::Fair,
            cuts: 0,
        });
        let to = Arc::clone(&target);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let to = to.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tokio::spawn(carry(client, to, orders.clone()));
            }
        });
        Self {
            address: address.unwrap_or_else(|error| panic!("{error}")),
            target,
            order,
            listening,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections to come lead to `target` (`127.0.0.1:port`).
    pub fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// From now on, on every connection.
    pub fn set(&self, weather: Weather) {
        self.order.send_modify(|order| order.weather = weather);
    }

    /// Ends every connection with RST on both sides.
    pub fn cut(&self) {
        self.order.send_modify(|order| order.cuts += 1);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn carry(mut client: TcpStream, target: String, mut orders: watch::Receiver<Order>) {
    // A bridge that is being started again: the agent finds its connection closed.
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let cuts = orders.borrow_and_update().cuts;
    let there = orders.clone();
    let back = orders.clone();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let cut = tokio::select! {
        () = pump(from_client, to_server, there) => false,
        () = pump(from_server, to_client, back) => false,
        _ = orders.wait_for(|order| order.cuts != cuts) => true,
    };
    if cut {
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// Carries until one side ends.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut orders: watch::Receiver<Order>) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(_) = orders
            .wait_for(|order| order.weather != Weather::Stalled)
            .await
        else {
            return;
        };
        let Ok(size @ 1..) = from.read(&mut piece).await else {
            return;
        };
        // It may have become worse while there was nothing to read.
        let Ok(weather) = orders
            .wait_for(|order| order.weather != Weather::Stalled)
            .await
            .map(|order| order.weather)
        else {
            return;
        };
        if weather == Weather::Fair && to.write_all(&piece[..size]).await.is_err() {
            return;
        }
    }
}
