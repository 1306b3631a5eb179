//! The cheapest server of a file there can be: its bytes from memory, whatever is asked.
//!
//! `bench-static FILE` listens on a free loopback port and prints its URL. It is what the catalogue page of
//! the bridge is measured against, so it has no routes, no conditions and no log.

use std::convert::Infallible;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let file = std::env::args().nth(1).ok_or("usage: bench-static FILE")?;
    let bytes = Bytes::from(std::fs::read(file)?);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("http://{}/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, bytes.clone()));
    }
}

async fn serve(stream: TcpStream, bytes: Bytes) {
    // A connection that cannot be had fast is still served.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |_request| {
        let mut response = Response::new(Full::new(bytes.clone()));
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        async { Ok::<_, Infallible>(response) }
    });
    // The client going away is the usual end.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
