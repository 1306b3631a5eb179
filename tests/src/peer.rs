//! An agent that may break every rule below the frames: it speaks WebSocket by hand once it is let in.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;

/// First byte of a text frame that is its whole message (RFC 6455 § 5.2).
pub const WHOLE_TEXT: u8 = 0x81;
/// First byte of a text frame more follow.
pub const FIRST_FRAGMENT: u8 = 0x01;
/// First byte of one that follows, and is not the last.
pub const NEXT_FRAGMENT: u8 = 0x00;
/// Says that a mask and 8 bytes of length follow.
const MASKED_LONG: u8 = 0xff;

/// One connection.
#[derive(Debug)]
pub struct Peer {
    socket: WebSocketStream<TcpStream>,
}

impl Peer {
    /// Dials the tunnel; nothing is said yet.
    ///
    /// # Panics
    /// When the upgrade is refused.
    pub async fn dial(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).await;
        let stream = stream.unwrap_or_else(|error| panic!("{error}"));
        let url = format!("ws://{authority}/v1/agents/tunnel");
        let mut request = url
            .into_client_request()
            .unwrap_or_else(|error| panic!("{error}"));
        let protocol = HeaderValue::from_static("paperbot.tunnel.v1");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        let upgraded = client_async(request, stream).await;
        let (socket, _) = upgraded.unwrap_or_else(|error| panic!("{error}"));
        Self { socket }
    }

    /// Dials and is let in.
    ///
    /// # Panics
    /// When it is not.
    pub async fn connect(authority: &str, agent_id: &str, token: &str) -> Self {
        let mut peer = Self::dial(authority).await;
        let hello = json!({
            "agent_meta": {"hostname": "box", "os": "linux", "arch": "x86_64", "pid": 7, "version": "0"},
            "resume": {"running": [], "results": []}, "protocol": {"min": 1, "max": 1},
        });
        for (seq, kind, payload) in [(1, "HELLO", hello), (2, "AUTH", json!({"token": token}))] {
            let frame = json!({"v": 1, "type": kind, "agent_id": agent_id, "seq": seq, "ts": 1, "payload": payload});
            let sent = peer.socket.send(Message::text(frame.to_string())).await;
            sent.unwrap_or_else(|error| panic!("{error}"));
        }
        let answer = tokio::time::timeout(PATIENCE, peer.socket.next()).await;
        let answer = answer.unwrap_or_else(|_| panic!("the bridge says nothing"));
        let Some(Ok(Message::Text(text))) = answer else {
            panic!("not let in: {answer:?}")
        };
        let frame: Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(frame["type"], "HELLO_ACK", "{frame}");
        peer
    }

    /// Writes a frame's head and then `sent` zero bytes of the `promised` ones; false when the bridge is gone.
    pub async fn write(&mut self, first_byte: u8, promised: u64, sent: usize) -> bool {
        let stream = self.socket.get_mut();
        let mut head = vec![first_byte, MASKED_LONG];
        head.extend(promised.to_be_bytes());
        // A mask of zeroes: what is sent is what is meant.
        head.extend([0; 4]);
        if stream.write_all(&head).await.is_err() {
            return false;
        }
        let piece = vec![b' '; 64 * 1024];
        let mut left = sent;
        while left > 0 {
            let size = left.min(piece.len());
            if stream.write_all(&piece[..size]).await.is_err() {
                return false;
            }
            left -= size;
        }
        true
    }

    /// Waits until the bridge has closed the connection.
    ///
    /// # Panics
    /// When it does not.
    pub async fn closed(mut self) {
        let mut rest = Vec::new();
        let reading = self.socket.get_mut().read_to_end(&mut rest);
        let read = tokio::time::timeout(PATIENCE, reading).await;
        // An end or an RST: closed is closed.
        let _ = read.unwrap_or_else(|_| panic!("the bridge keeps the connection"));
    }
}
