//! Against an issuer that answers over real HTTP, with tokens the openssl program signed (`testdata/issuer`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::error::ErrorCode;
use crate::principal::Role;

fn tokens() -> Value {
    serde_json::from_str(include_str!("../../testdata/issuer/tokens.json")).unwrap()
}

/// What the issuer answers at its one address, and how often it was asked.
struct FakeIssuer {
    url: Url,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into()
}

fn key_set(names: &[&str]) -> Vec<u8> {
    let all = &tokens()["keys"];
    let keys: Vec<&Value> = names.iter().map(|name| &all[*name]).collect();
    ok(&json!({ "keys": keys }).to_string())
}

impl FakeIssuer {
    async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(Mutex::new(answer));
        let (counted, told) = (Arc::clone(&asked), Arc::clone(&answer));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let bytes = told.lock().unwrap().clone();
                let _ = stream.write_all(&bytes).await;
            }
        });
        Self {
            url: url.parse().unwrap(),
            asked,
            answer,
            task,
        }
    }

    fn answers(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn trusted(&self) -> Issuer {
        let options = IssuerOptions {
            issuer: "https://id.test".to_owned(),
            audience: "bridge".to_owned(),
            jwks_url: self.url.clone(),
            workspace_claim: "workspaces".to_owned(),
            roles_claim: "roles".to_owned(),
            algorithms: ALGORITHMS.map(|(_, algorithm)| algorithm).to_vec(),
        };
        Issuer::new(options, (&TaskTracker::new(), &CancellationToken::new()))
    }
}

impl Drop for FakeIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Time goes by; everything else stands still meanwhile.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn good(name: &str) -> String {
    tokens()["good"][name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tokens_of_the_issuer_are_read_whatever_it_signs_them_with() {
    let fake = FakeIssuer::start(key_set(&["rsa", "ec", "ed"])).await;
    let issuer = fake.trusted();
    for name in [
        "RS256",
        "PS256",
        "RS512",
        "ES256",
        "EdDSA",
        "without kid",
        "audiences",
    ] {
        let reach = issuer
            .read(&good(name))
            .await
            .unwrap_or_else(|_| panic!("{name}"));
        assert_eq!(reach.user.as_str(), "ann", "{name}");
        assert!(reach.name.starts_with(TOKEN_PREFIX) && reach.name.len() == 20);
        let [(workspace, roles)] = reach.memberships.as_slice() else {
            panic!("{name}")
        };
        assert_eq!(
            (workspace.as_str(), roles.as_slice()),
            ("default", &[Role::Operator][..])
        );
    }
    assert_eq!(fake.asked(), 1, "the keys are kept");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_it_names_nobody_and_the_refusal_is_the_same() {
    let fake = FakeIssuer::start(key_set(&["rsa", "rsa2", "ec", "ed"])).await;
    let issuer = fake.trusted();
    let tokens = tokens();
    let bad = tokens["bad"].as_object().unwrap();
    assert!(bad.len() >= 18);
    for (name, token) in bad {
        let fault = issuer.read(token.as_str().unwrap()).await.expect_err(name);
        assert_eq!(format!("{fault:?}"), format!("{:?}", refused()), "{name}");
    }
    for junk in ["", "a.b.c", "..", &"a".repeat(MAX_TOKEN_BYTES + 1)] {
        assert_eq!(
            issuer.read(junk).await.unwrap_err().code,
            ErrorCode::Unauthenticated
        );
    }
    // An algorithm that is not taken is refused although the key is known and the signature right.
    let mut narrow = fake.trusted();
    narrow.options.algorithms = vec![Algorithm::ES256];
    assert!(narrow.read(&good("RS256")).await.is_err());
    assert!(narrow.read(&good("ES256")).await.is_ok());
}

#[tokio::test]
async fn claims_name_workspaces_and_roles_and_nothing_they_invent() {
    let fake = FakeIssuer::start(key_set(&["rsa"])).await;
    let mut issuer = fake.trusted();
    let shown = async |issuer: &Issuer, name: &str| {
        let reach = issuer.read(&good(name)).await.unwrap();
        let all = reach.memberships.iter();
        all.map(|(workspace, roles)| format!("{workspace} {roles:?}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&issuer, "by workspace").await,
        ["default [Viewer]", "nowhere [Admin]", "team [Admin]"]
    );
    assert!(shown(&issuer, "nothing").await.is_empty());
    issuer.options.workspace_claim = "bridge.spaces".to_owned();
    issuer.options.roles_claim = "bridge.may".to_owned();
    // A role is a name until the configuration gives it rules; one without any opens nothing.
    assert_eq!(
        shown(&issuer, "nested").await,
        ["default [Viewer, Custom(\"nonsense\")]"]
    );
}

#[tokio::test]
async fn a_new_key_is_learnt_while_running_and_unknown_ones_are_not_asked_for_again_and_again() {
    let fake = FakeIssuer::start(key_set(&["rsa"])).await;
    let issuer = Arc::new(fake.trusted());
    issuer.read(&good("RS256")).await.unwrap();
    let unknown = tokens()["unknown kid"].clone();
    let mut storm = tokio::task::JoinSet::new();
    for number in 0..300 {
        let (issuer, unknown) = (Arc::clone(&issuer), unknown.clone());
        storm.spawn(async move {
            let token = unknown[number % 3].as_str().unwrap().to_owned();
            issuer.read(&token).await.is_err()
        });
    }
    assert!(storm.join_all().await.into_iter().all(|refused| refused));
    assert_eq!(fake.asked(), 1, "asked just now, so not again");
    // The issuer changes its key: known as soon as the pause is over, and the old one is gone with it.
    fake.answers(key_set(&["rsa2"]));
    later(Duration::from_secs(6)).await;
    issuer.read(&good("rotated")).await.unwrap();
    assert!(issuer.read(&good("RS256")).await.is_err());
    assert_eq!(fake.asked(), 2);
}

#[tokio::test]
async fn known_keys_are_good_while_the_issuer_is_away_and_not_for_ever() {
    let fake = FakeIssuer::start(key_set(&["rsa"])).await;
    let issuer = fake.trusted();
    issuer.read(&good("RS256")).await.unwrap();
    for broken in [
        b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        ok("no json"),
        ok(r#"{"keys":[]}"#),
        ok(r#"{"keys":[{"kty":"oct","kid":"rsa","k":"c2VjcmV0"}]}"#),
        ok(&format!(r#"{{"keys":[],"more":"{}"}}"#, "x".repeat(300 * 1024))),
    ] {
        let before = fake.asked();
        fake.answers(broken);
        later(Duration::from_mins(6)).await;
        issuer.read(&good("RS256")).await.unwrap();
        assert_eq!(fake.asked(), before + 1, "asked again and nothing learnt");
    }
    later(Duration::from_hours(1)).await;
    assert!(issuer.read(&good("RS256")).await.is_err());
}

#[tokio::test]
async fn keys_for_another_use_verify_nothing() {
    let mut jwk = tokens()["keys"]["rsa"].clone();
    for (member, value) in [
        ("use", json!("enc")),
        ("alg", json!("RS512")),
        ("key_ops", json!(["encrypt"])),
    ] {
        let kept = jwk[member].take();
        jwk[member] = value;
        let fake = FakeIssuer::start(ok(&json!({"keys": [jwk]}).to_string())).await;
        assert!(
            fake.trusted().read(&good("RS256")).await.is_err(),
            "{member}"
        );
        if kept.is_null() {
            jwk.as_object_mut().unwrap().remove(member);
        } else {
            jwk[member] = kept;
        }
    }
}
