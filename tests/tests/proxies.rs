//! Variables that name a proxy, in the daemon's environment: nothing goes by one. A proxy would resolve names itself
//! and reach what the outbound policy closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use testkit::grants::Grants;
use testkit::{Bridge, BridgeOptions, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

/// Every variable that some HTTP client obeys.
const VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

/// A proxy that counts who comes, and refuses.
async fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let address = listener
        .local_addr()
        .unwrap_or_else(|error| panic!("{error}"));
    let came = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&came);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream
                .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    });
    (address.to_string(), came)
}

#[tokio::test]
async fn nothing_the_bridge_sends_goes_by_a_proxy_of_its_environment() {
    let (address, came) = proxy().await;
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let grants = Grants::start().await;
    let mut env: Vec<(&'static str, String)> = VARIABLES
        .into_iter()
        .map(|name| (name, format!("http://{address}")))
        .collect();
    // Nothing is excepted, not even loopback.
    env.extend([("NO_PROXY", String::new()), ("no_proxy", String::new())]);
    let issuer = format!(
        "auth: {{jwt: {{issuer: 'https://id.test', audience: bridge, jwks_url: 'http://{}/keys'}}}}\n",
        closed_port().await
    );
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams: vec![grants.upstream("grants")],
        extra: format!("{}{issuer}", Grants::sections(folder.path())),
        env,
        ..BridgeOptions::default()
    })
    .await;
    let call = async |reference: &str, arguments: serde_json::Value| {
        let body = json!({"ref": reference, "arguments": arguments});
        bridge.send("POST", "/v1/calls", Some(body)).await
    };
    // Streamable HTTP; metadata of the server and its issuer, registration, code and tokens, and renewing them.
    let refused = call("grants.tell", json!({})).await.json();
    let link = refused["link"]
        .as_str()
        .unwrap_or_else(|| panic!("{refused}"));
    grants.grant(&bridge, link).await;
    for _ in 0..2 {
        eventually("a call with the grant", || async {
            (call("grants.tell", json!({})).await.status == 200).then_some(())
        })
        .await;
        grants.end_access();
    }
    // The key set of an issuer of ours, which is nowhere: refused at the door, and not asked for elsewhere.
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.AA";
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let me = bridge.send_with("GET /v1/me", &headers, None).await;
    assert_eq!(me.status, 401);
    // A name that nobody can resolve goes to no proxy that could.
    let definition =
        json!({"transport": "streamable_http", "url": "https://bridge-test.invalid/mcp"});
    let tested = bridge.send(
        "POST",
        "/v1/servers/probe/test",
        Some(json!({"definition": definition})),
    );
    assert_eq!(tested.await.json()["ok"], false);
    assert_eq!(came.load(Ordering::SeqCst), 0, "connections to the proxy");
}

/// An address nobody listens on.
async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    listener
        .local_addr()
        .unwrap_or_else(|error| panic!("{error}"))
        .to_string()
}
