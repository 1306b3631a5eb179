//! How much the ledger costs a plain read-only call: rows a second and CPU a row. Run by hand.
//!
//! `cargo run --release --package paperbot-broker --example ledger_load -- [sqlite://FILE | postgres://…] [ROWS]`

use std::time::Duration;

use broker::call_state::CallState;
use broker::ledger::{CallKind, Intent, Settled};
use broker::{CallId, Store, Trace};
use chrono::Utc;
use sessions::{Lane, SessionId, UserId, WorkspaceId};
use tokio::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or_else(|| "sqlite:///tmp/ledger-load.db".to_owned());
    let rows: u32 = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(&url, rows))
}

async fn measure(url: &str, rows: u32) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(url).await?;
    let workspace = WorkspaceId::new("default")?;

    let before = Spent::now();
    let session = SessionId::mint();
    let made: Vec<_> = (0..rows)
        .map(|_| call(&workspace, session))
        .collect::<Result<_, _>>()?;
    println!("making:  {}", before.since(rows));

    let before = Spent::now();
    for (intent, settled) in &made {
        while store.is_backlogged() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        store.record_call(intent.clone(), settled.clone());
    }
    store.flush().await;
    println!("ledger:  {} lost {}", before.since(rows), store.lost_rows());

    store.shutdown().await;
    Ok(())
}

fn call(
    workspace: &WorkspaceId,
    session: SessionId,
) -> Result<(Intent, Settled), Box<dyn std::error::Error>> {
    let id = CallId::mint();
    let intent = Intent {
        id,
        workspace: workspace.clone(),
        user: UserId::new("admin")?,
        key_id: "0123456789abcdef".into(),
        kind: CallKind::Tool,
        reference: "bench.echo".into(),
        lane: Lane::default(),
        trace_id: Trace::mint().id(),
        arguments_digest: [7; 32],
        preview: "message: string".into(),
        schema_hash: Some(catalog::Hash([9; 32])),
        idempotency_key: None,
        request_digest: [0; 32],
        read_only: true,
        detached: false,
        created_at: Utc::now(),
        agent_id: None,
        deadline_at: None,
        approval_id: None,
    };
    let settled = Settled {
        id,
        workspace: workspace.clone(),
        state: CallState::Succeeded,
        session_id: Some(session),
        ended_at: Utc::now(),
        duration_ms: 1,
        code: None,
        result: None,
        fault: None,
        frees_key: None,
    };
    Ok((intent, settled))
}

/// Time and CPU time of this process so far.
struct Spent {
    at: Instant,
    cpu_us: f64,
}

impl Spent {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            cpu_us: cpu_us(),
        }
    }

    fn since(&self, rows: u32) -> String {
        let (wall, cpu) = (self.at.elapsed().as_secs_f64(), cpu_us() - self.cpu_us);
        let rows = f64::from(rows);
        format!(
            "{:>8.0} a second, {:.2} us CPU each",
            rows / wall,
            cpu / rows
        )
    }
}

/// User and system time of all threads, from the kernel's count of 10 ms ticks.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|text| text.parse::<f64>().ok())
        .sum::<f64>()
        * 10_000.0
}
