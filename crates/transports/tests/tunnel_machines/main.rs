//! Both halves of the tunnel's protocol against each other, over lines that lose, repeat, reorder and break,
//! through restarts of either side. The seed is printed; `PAPERBOT_SEED` runs it again.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod agent;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use world::{Way, World};

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Invoke { timeout_ms: u64 },
    Move { way: Way, frames: usize },
    Flow,
    Lose(Way),
    Repeat(Way),
    Swap(Way),
    Garble(Way),
    Cut,
    LateFrame(usize),
    Replay(usize),
    InvokeAgain(usize),
    RestartAgent,
    RestartBridge,
    Say { pick: usize, lines: usize },
    Finish { pick: usize, bytes: usize },
    Commit(usize),
    GiveUp(usize),
    Cancel(usize),
    Wait { ms: u64 },
}

/// What happens on good lines that break now and then: nothing may be lost.
fn gentle() -> BoxedStrategy<Op> {
    let way = || prop_oneof![Just(Way::ToBridge), Just(Way::ToAgent)];
    prop_oneof![
        6 => Just(Op::Invoke { timeout_ms: 3_600_000 }),
        8 => (way(), 1..6_usize).prop_map(|(way, frames)| Op::Move { way, frames }),
        5 => Just(Op::Flow),
        3 => Just(Op::Cut),
        2 => any::<usize>().prop_map(Op::LateFrame),
        4 => (any::<usize>(), 1..30_usize).prop_map(|(pick, lines)| Op::Say { pick, lines }),
        6 => (any::<usize>(), 0..3_000_usize).prop_map(|(pick, bytes)| Op::Finish { pick, bytes }),
        6 => any::<usize>().prop_map(Op::Commit),
        5 => (0..4_000_u64).prop_map(|ms| Op::Wait { ms }),
        1 => way().prop_map(Op::Lose),
    ]
    .boxed()
}

/// Whatever can happen.
fn rough() -> BoxedStrategy<Op> {
    let way = || prop_oneof![Just(Way::ToBridge), Just(Way::ToAgent)];
    prop_oneof![
        30 => gentle(),
        2 => (1..20_000_u64).prop_map(|timeout_ms| Op::Invoke { timeout_ms }),
        2 => way().prop_map(Op::Repeat),
        2 => way().prop_map(Op::Swap),
        1 => way().prop_map(Op::Garble),
        1 => way().prop_map(Op::Lose),
        1 => any::<usize>().prop_map(Op::Replay),
        1 => any::<usize>().prop_map(Op::InvokeAgain),
        1 => Just(Op::RestartAgent),
        1 => Just(Op::RestartBridge),
        2 => any::<usize>().prop_map(Op::GiveUp),
        2 => any::<usize>().prop_map(Op::Cancel),
        1 => (0..90_000_u64).prop_map(|ms| Op::Wait { ms }),
    ]
    .boxed()
}

fn check(cases: u32, ops: impl Strategy<Value = Vec<Op>>, gentle: bool) {
    let given = std::env::var("PAPERBOT_SEED").ok();
    let seed: u64 = given.map_or_else(rand::random, |seed| seed.parse().unwrap());
    eprintln!("PAPERBOT_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut ended = [0_usize; 3];
    let sums = std::cell::RefCell::new(&mut ended);
    let run = TestRunner::new_with_rng(config, rng).run(&ops, |ops| {
        let mut world = World::new();
        for op in &ops {
            world.apply(op).map_err(TestCaseError::fail)?;
        }
        let counts = world.settle(gentle).map_err(TestCaseError::fail)?;
        let mut sums = sums.borrow_mut();
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        Ok(())
    });
    if let Err(failure) = run {
        panic!("PAPERBOT_SEED={seed}: {failure}");
    }
    let [calls, results, cuts] = ended;
    eprintln!(
        "{calls} calls, {results} results, {cuts} lines cut; each ended once, none ran twice"
    );
    assert!(results > 0 && cuts > 0, "the test tests something");
}

#[test]
fn cut_lines_lose_no_result_and_run_no_call_twice() {
    check(300, vec(gentle(), 1..150), true);
}

#[test]
fn nothing_that_happens_runs_a_call_twice_or_ends_it_twice() {
    check(500, vec(rough(), 1..200), false);
}
