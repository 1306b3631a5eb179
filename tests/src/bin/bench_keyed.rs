//! A closed loop of calls that act, each with an idempotency key of its own, over kept connections.
//!
//! `bench-keyed URL CALLERS SECONDS BODY ['name: value'…]` posts BODY for that long after a warm-up of a fifth of it
//! and prints one line of JSON. Every answer must be 200; any other is an error, counted. Loopback only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Load {
    uri: Uri,
    authority: String,
    body: Bytes,
    headers: Vec<(String, String)>,
    /// Makes keys of this run unlike those of another.
    run: u64,
    keys: AtomicU64,
    errors: AtomicU64,
    begin: Instant,
    end: Instant,
}

impl Load {
    fn request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let key = format!(
            "{:x}-{}",
            self.run,
            self.keys.fetch_add(1, Ordering::Relaxed)
        );
        let mut request = Request::post(path)
            .header("host", &self.authority)
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }

    /// One caller; how long each call took in microseconds, those of the warm-up aside.
    async fn call(&self) -> Result<Vec<u64>, Failure> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut times = Vec::new();
        while Instant::now() < self.end {
            let began = Instant::now();
            sender.ready().await?;
            let (head, body) = sender.send_request(self.request()?).await?.into_parts();
            body.collect().await?;
            if head.status != StatusCode::OK {
                self.errors.fetch_add(1, Ordering::Relaxed);
            }
            if began >= self.begin {
                times.push(u64::try_from(began.elapsed().as_micros())?);
            }
        }
        Ok(times)
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, callers, seconds, body, headers @ ..] = arguments.as_slice() else {
        return Err("usage: bench-keyed URL CALLERS SECONDS BODY ['name: value'…]".into());
    };
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("the URL names no host")?.to_string();
    if !authority.starts_with("127.") {
        return Err("loopback only".into());
    }
    let split = |header: &String| -> Result<(String, String), Failure> {
        let (name, value) = header.split_once(':').ok_or("a header is `name: value`")?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let begin = Instant::now() + seconds / 5;
    let load = Arc::new(Load {
        uri,
        authority,
        body: Bytes::from(body.clone()),
        headers: headers.iter().map(split).collect::<Result<_, _>>()?,
        run: rand::random(),
        keys: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        begin,
        end: begin + seconds,
    });
    let mut running = JoinSet::new();
    for _ in 0..callers.parse::<usize>()? {
        let load = Arc::clone(&load);
        running.spawn(async move { load.call().await });
    }
    let mut times = Vec::new();
    while let Some(ended) = running.join_next().await {
        times.extend(ended??);
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied();
    let per_s = u32::try_from(times.len())?;
    let told = json!({
        "total": times.len(), "secs": seconds.as_secs_f64(), "rps": f64::from(per_s) / seconds.as_secs_f64(),
        "p50_us": at(50), "p99_us": at(99), "errors": load.errors.load(Ordering::Relaxed),
    });
    println!("{told}");
    Ok(())
}
