//! Reads standard input without ever hanging on one that nobody writes to.

use std::io::{IsTerminal as _, Read as _};
use std::sync::mpsc;
use std::time::Duration;

use crate::failure::Failure;

/// How long a pipe may take to show its first byte before it counts as idle and inherited.
const FIRST_BYTE_WAIT: Duration = Duration::from_millis(100);

/// The bridge refuses bodies over 10 MiB by default; more than this is no set of arguments.
const MAX_INPUT_BYTES: u64 = 64 * 1024 * 1024;

/// What standard input held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Its bytes, to the end.
    Bytes(Vec<u8>),
    /// It is a terminal, or ended at once.
    Nothing,
    /// It is open but showed no byte in time; perhaps inherited, perhaps slow.
    Idle,
}

/// Reads everything if there is a byte soon; otherwise leaves it alone.
///
/// # Errors
/// When reading fails or the input is too long.
pub(crate) fn if_any() -> Result<Input, Failure> {
    if std::io::stdin().is_terminal() {
        return Ok(Input::Nothing);
    }
    let (first_sender, first) = mpsc::sync_channel(1);
    let (rest_sender, rest) = mpsc::sync_channel(1);
    // The thread may wait forever on an idle input; the process ends without it.
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut byte = [0_u8; 1];
        let found = stdin.read(&mut byte).map(|count| byte[..count].to_vec());
        let go_on = matches!(&found, Ok(bytes) if !bytes.is_empty());
        let head = found.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
        if first_sender.send(found).is_ok() && go_on {
            let mut whole = head;
            let read = (&mut stdin).take(MAX_INPUT_BYTES).read_to_end(&mut whole);
            let _ = rest_sender.send(read.map(|_| whole));
        }
    });
    match first.recv_timeout(FIRST_BYTE_WAIT) {
        Ok(Ok(bytes)) if bytes.is_empty() => Ok(Input::Nothing),
        Ok(Ok(_one)) => match rest.recv() {
            Ok(Ok(whole)) => within_bounds(whole).map(Input::Bytes),
            Ok(Err(error)) => Err(Failure::local_io("stdin", &error)),
            Err(_gone) => Ok(Input::Nothing),
        },
        // A closed standard input is no input.
        Ok(Err(_)) => Ok(Input::Nothing),
        Err(_no_byte) => Ok(Input::Idle),
    }
}

/// Reads to the end, however long that takes: the user asked for it with `-`.
///
/// # Errors
/// When reading fails or the input is too long.
pub(crate) fn all() -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_INPUT_BYTES)
        .read_to_end(&mut whole)
        .map_err(|error| Failure::local_io("stdin", &error))?;
    within_bounds(whole)
}

fn within_bounds(whole: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if whole.len() as u64 >= MAX_INPUT_BYTES {
        return Err(Failure::usage(format!(
            "standard input holds more than {MAX_INPUT_BYTES} bytes"
        )));
    }
    Ok(whole)
}
