"""Many small requests by a few workers, each on a kept connection of its own."""

import concurrent.futures

WORKERS = 4
# A worker that failed so often will not get better.
MAX_FAILURES = 20


def spread(run, bridge, items, work):
    """`work(client, item)` for every item; what went wrong, in words. `work` may give words itself."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        shares = [pool.submit(_share, run, bridge, items[at::WORKERS], work) for at in range(WORKERS)]
        return [words for share in shares for words in share.result()]


def _share(run, bridge, items, work):
    client, failures = bridge.new_client(), []
    for item in items:
        try:
            words = work(client, item)
        except (OSError, RuntimeError) as error:
            words = f"{type(error).__name__}: {error}"
        if words:
            failures.append(words)
        if len(failures) >= MAX_FAILURES or run.cut.is_set():
            break
    client.close()
    return failures


def none_failed(report, what, failures):
    report.equal(f"failures of {what}", len(failures), 0)
    if failures:
        report.note(f"first failure of {what}: `{failures[0]}`")
