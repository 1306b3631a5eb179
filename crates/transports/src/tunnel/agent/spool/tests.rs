use super::*;

const NOW: u64 = 1_800_000_000;

fn id(text: &str) -> ReqId {
    ReqId::new(text).unwrap()
}

fn open(folder: &Path) -> (Spool, Recovered) {
    Spool::open(folder, SpoolLimits::default()).unwrap()
}

#[test]
fn a_kept_result_and_a_mark_are_there_again_and_what_is_gone_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, recovered) = open(folder.path());
    assert_eq!(recovered, Recovered::default());
    for call in ["call_a", "call_b", "call_c"] {
        spool.started(&id(call), NOW).unwrap();
    }
    assert!(
        spool
            .put(&id("call_a"), "{\"ok\":true}", NOW)
            .unwrap()
            .is_empty()
    );
    spool.put(&id("call_b"), "{}", NOW).unwrap();
    spool.remove(&id("call_b"), NOW).unwrap();
    drop(spool);
    let (spool, recovered) = open(folder.path());
    let calls: Vec<_> = recovered
        .calls
        .iter()
        .map(|c| (&*c.req_id, c.result_bytes.is_some()))
        .collect();
    assert_eq!(
        calls,
        [("call_c", false), ("call_a", true)],
        "in the order of their last words"
    );
    assert_eq!(spool.read("call_a").as_deref(), Some("{\"ok\":true}"));
    assert_eq!((spool.read("call_b"), spool.read("call_c")), (None, None));
}

#[test]
fn two_agents_never_share_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    assert!(Spool::is_in_use(folder.path()));
    let second = Spool::open(folder.path(), SpoolLimits::default());
    assert!(matches!(second, Err(SpoolError::InUse(_))));
    drop(first);
    assert!(!Spool::is_in_use(folder.path()));
    open(folder.path());
}

#[test]
fn over_the_bound_the_oldest_result_goes_and_is_named_but_never_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let limits = SpoolLimits { bytes: 25 };
    let (mut spool, _) = Spool::open(folder.path(), limits).unwrap();
    for call in ["call_a", "call_b"] {
        spool.started(&id(call), NOW).unwrap();
        assert!(spool.put(&id(call), "0123456789", NOW).unwrap().is_empty());
    }
    assert_eq!(
        spool.put(&id("call_c"), "0123456789", NOW).unwrap(),
        [id("call_a")]
    );
    assert_eq!(spool.result_bytes(), 20);
    drop(spool);
    let (spool, recovered) = Spool::open(folder.path(), limits).unwrap();
    let calls: Vec<_> = recovered
        .calls
        .iter()
        .map(|c| (&*c.req_id, c.result_bytes.is_some()))
        .collect();
    assert_eq!(
        calls,
        [("call_b", true), ("call_a", false), ("call_c", true)]
    );
    assert_eq!(spool.read("call_a"), None);
}

#[test]
fn damage_is_told_and_the_rest_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    for call in ["call_a", "call_b", "call_c"] {
        spool.put(&id(call), "0123456789", NOW).unwrap();
    }
    drop(spool);
    let path = folder.path().join(LOG);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = memchr::memmem::find(&bytes, b"call_b").unwrap();
    bytes[middle] = b'X';
    bytes.extend_from_slice(b"P1 R 1800000000 500 0123");
    std::fs::write(&path, bytes).unwrap();
    let (spool, recovered) = open(folder.path());
    let calls: Vec<_> = recovered.calls.iter().map(|c| &*c.req_id).collect();
    assert_eq!(calls, ["call_a", "call_c"]);
    assert!(recovered.damaged_bytes > 24, "{recovered:?}");
    assert!(spool.read("call_c").is_some());
    drop(spool);
    assert_eq!(open(folder.path()).1.damaged_bytes, 0, "it is told once");
}

#[test]
fn a_thousand_calls_leave_a_small_log() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    let result = "x".repeat(64 * 1024);
    spool.started(&id("call_long"), NOW).unwrap();
    for number in 0..1000 {
        let call = id(&format!("call_{number}"));
        spool.started(&call, NOW).unwrap();
        spool.put(&call, &result, NOW).unwrap();
        assert_eq!(spool.read(&call).as_ref(), Some(&result));
        spool.remove(&call, NOW).unwrap();
    }
    let size = std::fs::metadata(folder.path().join(LOG)).unwrap().len();
    assert!(size < 2 * COMPACT_BYTES, "{size}");
    drop(spool);
    let (_, recovered) = open(folder.path());
    assert_eq!(recovered.calls.len(), 1, "the call that still ran");
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("spool");
    open(&inner);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join(LOG))), (0o700, 0o600));
}

#[test]
fn its_name_lasts_but_not_beyond_what_it_may_have_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).0.id().to_owned();
    assert_eq!(open(folder.path()).0.id(), first);
    let path = folder.path().join(NAME);
    std::fs::write(&path, format!("{first} another-boot")).unwrap();
    let second = open(folder.path()).0.id().to_owned();
    assert_ne!(second, first, "the machine was started anew");
    std::fs::write(folder.path().join(LOG), "P1 what is this").unwrap();
    let third = open(folder.path()).0.id().to_owned();
    assert_ne!(third, second, "records were lost");
    assert_eq!(open(folder.path()).0.id(), third);
}

#[test]
fn a_disk_that_refuses_costs_only_what_it_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    spool.put(&id("call_a"), "{}", NOW).unwrap();
    let good = Arc::clone(&spool.log);
    // Reads, and takes no byte.
    spool.log = Arc::new(File::open(folder.path().join(LOG)).unwrap());
    assert!(spool.put(&id("call_b"), "{}", NOW).is_err());
    assert!(spool.started(&id("call_c"), NOW).is_err());
    assert!(spool.read("call_a").is_some());
    spool.log = good;
    spool.put(&id("call_b"), "{}", NOW).unwrap();
    drop(spool);
    let (_, recovered) = open(folder.path());
    let calls: Vec<_> = recovered.calls.iter().map(|c| &*c.req_id).collect();
    assert_eq!(calls, ["call_a", "call_b"]);
    assert_eq!(recovered.damaged_bytes, 0);
}

/// Where the successor of a log should be made stands a folder: it can be neither removed nor written.
fn forbid_rewriting(folder: &Path) {
    std::fs::create_dir_all(folder.join(NEW_LOG).join("taken")).unwrap();
}

#[test]
fn a_log_that_cannot_be_rewritten_is_opened_and_used_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    spool.put(&id("call_a"), "{}", NOW).unwrap();
    drop(spool);
    let path = folder.path().join(LOG);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"P1 R 1800000000 500 0123");
    std::fs::write(&path, bytes).unwrap();
    forbid_rewriting(folder.path());
    let (mut spool, recovered) = open(folder.path());
    assert_eq!((recovered.calls.len(), recovered.damaged_bytes), (1, 24));
    spool.put(&id("call_b"), "{}", NOW).unwrap();
    drop(spool);
    let (spool, recovered) = open(folder.path());
    assert_eq!((recovered.calls.len(), recovered.damaged_bytes), (2, 0));
    assert!(spool.read("call_a").is_some() && spool.read("call_b").is_some());
}

#[test]
fn what_was_written_is_kept_though_the_log_cannot_be_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    forbid_rewriting(folder.path());
    let result = "x".repeat(1024 * 1024);
    for number in 0..12 {
        let call = id(&format!("call_{number}"));
        spool.put(&call, &result, NOW).unwrap();
        spool.remove(&call, NOW).unwrap();
    }
    spool.put(&id("call_last"), "{}", NOW).unwrap();
    assert!(spool.read("call_last").is_some());
    std::fs::remove_dir_all(folder.path().join(NEW_LOG)).unwrap();
    for number in 0..12 {
        let call = id(&format!("call_{number}"));
        spool.put(&call, &result, NOW).unwrap();
        spool.remove(&call, NOW).unwrap();
    }
    let size = std::fs::metadata(folder.path().join(LOG)).unwrap().len();
    assert!(size < 2 * COMPACT_BYTES, "it is rewritten again: {size}");
    assert!(spool.read("call_last").is_some());
}

#[test]
fn the_oldest_is_what_ended_first_and_not_what_began_first() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(folder.path(), SpoolLimits { bytes: 25 }).unwrap();
    spool.started(&id("call_long"), NOW).unwrap();
    spool.started(&id("call_short"), NOW).unwrap();
    spool.put(&id("call_short"), "0123456789", NOW).unwrap();
    spool.put(&id("call_long"), "0123456789", NOW).unwrap();
    let dropped = spool.put(&id("call_new"), "0123456789", NOW).unwrap();
    assert_eq!(dropped, [id("call_short")]);
}
