//! A closed loop of GETs on one kept connection, timed until the whole answer is read.
//!
//! `bench-get URL SECONDS STATUS ['name: value'…]` asks for that long after a warm-up of a fifth of it and
//! prints one line of JSON. Every answer must have the status and the very bytes of the first one; any
//! other is an error, counted. It cares for nothing but time: no redirects, no TLS, loopback only.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// After so many wrong answers there is nothing to measure.
const MAX_ERRORS: u64 = 100;

struct Ask {
    uri: Uri,
    authority: String,
    headers: Vec<(String, String)>,
}

impl Ask {
    fn new(url: &str, headers: &[String]) -> Result<Self, Failure> {
        let uri: Uri = url.parse()?;
        let authority = uri.authority().ok_or("the URL names no host")?.to_string();
        if !authority.starts_with("127.") {
            return Err("loopback only".into());
        }
        let split = |header: &String| -> Result<(String, String), Failure> {
            let (name, value) = header.split_once(':').ok_or("a header is `name: value`")?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        Ok(Self {
            uri,
            authority,
            headers: headers.iter().map(split).collect::<Result<_, _>>()?,
        })
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, Failure> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path).header("host", &self.authority);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(Empty::new())?)
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Failure> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn exchange(
    sender: &mut SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head.status, body.collect().await?.to_bytes()))
}

async fn measure(ask: &Ask, seconds: f64, status: StatusCode) -> Result<Value, Failure> {
    let mut sender = ask.connect().await?;
    let (first_status, first_body) = exchange(&mut sender, ask.request()?).await?;
    if first_status != status {
        let start = String::from_utf8_lossy(&first_body);
        let start: String = start.chars().take(300).collect();
        return Err(format!("{first_status} instead of {status}: {start}").into());
    }
    let warm = Instant::now() + Duration::from_secs_f64(seconds / 5.0);
    let end = warm + Duration::from_secs_f64(seconds);
    let (mut times, mut errors) = (Vec::new(), 0);
    loop {
        let request = ask.request()?;
        let began = Instant::now();
        let (status, body) = exchange(&mut sender, request).await?;
        let took = began.elapsed();
        if status != first_status || body != first_body {
            errors += 1;
        } else if began >= warm {
            times.push(took);
        }
        if began >= end || errors >= MAX_ERRORS {
            break;
        }
    }
    times.sort_unstable();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).map_or(0.0, Duration::as_secs_f64) * 1e6
    };
    Ok(json!({
        "n": times.len(), "p50_us": at(50), "p99_us": at(99), "bytes": first_body.len(), "errors": errors,
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, seconds, status, headers @ ..] = arguments.as_slice() else {
        return Err("usage: bench-get URL SECONDS STATUS ['name: value'…]".into());
    };
    let ask = Ask::new(url, headers)?;
    let measured = measure(&ask, seconds.parse()?, status.parse()?).await?;
    println!("{measured}");
    Ok(())
}
