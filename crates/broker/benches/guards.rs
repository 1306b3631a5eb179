//! What policy, limits and the ledger add to a call that only reads, in CPU: as many calls a second as a busy bridge
//! has, each going through its guards and nothing else, against the same pace without them, in turns.
//!
//! `cargo bench --package paperbot-broker --bench guards --features measuring [-- ROUNDS SECONDS PER_S]`

use std::num::NonZeroU32;
use std::time::Duration;

use broker::operations::calls::CallTool;
use broker::{
    Asker, Broker, BrokerOptions, Definition, Guards, Principal, Rate, Rates, Role, Scopes, Store,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::value::RawValue;
use sessions::{UserId, WorkspaceId};
use tokio::time::{Instant, MissedTickBehavior};
use transports::testing::FakeServer;

// As the daemon has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Calls come in handfuls this far apart, as they do from many connections that are looked at in turn.
const TICK: Duration = Duration::from_millis(1);
/// As the load generator of `make bench` asks and its server answers.
const ARGUMENTS: &str = r#"{"message":"m-000000000000","n":1}"#;
const RESULT: &str = r#"{"content":[{"type":"text","text":"m-000000000000"}],"isError":false}"#;

fn main() -> Result<(), Failure> {
    // Cargo says `--bench` as well.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let numbers = words
        .map(|word| word.parse())
        .collect::<Result<Vec<u32>, _>>()?;
    let of = |at: usize, usual| numbers.get(at).copied().unwrap_or(usual);
    let (rounds, seconds, per_s) = (of(0, 5), of(1, 3), of(2, 15_000));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(rounds, Duration::from_secs(seconds.into()), per_s))
}

async fn measure(rounds: u32, time: Duration, per_s: u32) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let url = format!("sqlite://{}", dir.path().join("store.db").display());
    let broker = Broker::start(options(Store::open(&url).await?)).await?;
    let fake = FakeServer::legacy();
    let definition: Definition =
        serde_json::from_str(r#"{"transport":"stdio","command":["fake"]}"#)?;
    let workspace = WorkspaceId::new("default")?;
    let asker = Asker::new(Principal {
        user: UserId::new("ann")?,
        workspace: workspace.clone(),
        workspaces: vec![workspace],
        roles: vec![Role::Admin],
        key_id: "0123456789abcdef".to_owned(),
        scopes: Scopes::default(),
        expires_at: None,
    });
    let request = CallTool {
        reference: "fake.echo".to_owned(),
        arguments: Some(RawValue::from_string(ARGUMENTS.to_owned())?),
        ..CallTool::default()
    };
    let result = RawValue::from_string(RESULT.to_owned())?;
    let server = (definition, fake.spec("fake")?);
    let guards = Guards::of(&broker, server, (asker, request), result).await?;
    let mut added = Vec::new();
    for _ in 0..rounds {
        let bare = round(None, time, per_s).await?;
        let guarded = round(Some(&guards), time, per_s).await?;
        println!("{bare:.2} µs a call at its pace alone, {guarded:.2} µs with its guards");
        added.push(guarded - bare);
    }
    broker.shutdown(Duration::from_secs(10)).await;
    added.sort_by(f64::total_cmp);
    let median = added.get(added.len() / 2).ok_or("no round")?;
    println!(
        "guards of a read: {median:.2} µs a call in the median of {rounds} rounds, {per_s} calls a second"
    );
    Ok(())
}

fn options(store: Store) -> BrokerOptions {
    let mut options = BrokerOptions::new(store);
    // Buckets are there and never empty: taking from them is part of what is measured.
    let rate = Rate {
        per_s: NonZeroU32::MAX,
        burst: NonZeroU32::MAX,
    };
    let [user, workspace, server, global] = [Some(rate); 4];
    options.calls.rates = Rates {
        user,
        workspace,
        server,
        global,
    };
    options
}

/// CPU of this process for each call, in microseconds, until all its rows are written.
async fn round(guards: Option<&Guards>, time: Duration, per_s: u32) -> Result<f64, Failure> {
    let handful = per_s / 1000;
    let before = cpu_us()?;
    let end = Instant::now() + time;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = 0_u32;
    while Instant::now() < end {
        ticks.tick().await;
        for _ in 0..handful {
            if let Some(guards) = guards {
                guards.pass().await?;
            }
            calls += 1;
        }
    }
    if let Some(guards) = guards {
        guards.written().await;
    }
    Ok((cpu_us()? - before) / f64::from(calls))
}

fn cpu_us() -> Result<f64, Failure> {
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    let whole = used.user_time() + used.system_time();
    Ok(u32::try_from(whole.num_microseconds())?.into())
}
