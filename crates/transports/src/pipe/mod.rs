//! MCP over one pair of byte streams, a message a line: stdio, and anything in its shape.
//!
//! One task writes, one reads; calls meet them through [`Pending`]. Knows nothing of processes.

mod reading;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::Inbound;
use crate::error::{CloseReason, Executed, RequestError};
use crate::pending::Pending;
use crate::spec::WireLimits;
use crate::wire::{self, Request};
use reading::Reading;

/// Lines waiting to be written. A server that does not read blocks its callers here, each until its deadline.
const WRITE_QUEUE: usize = 256;
/// Bytes gathered into one write when many calls are waiting.
const WRITE_BATCH_BYTES: usize = 64 * 1024;

/// How long a server that closed its input may still answer what it has read.
const DEAF_GRACE: Duration = Duration::from_millis(500);

type Answer = oneshot::Receiver<Result<Box<RawValue>, RequestError>>;

/// One pair of streams.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) pending: Arc<Pending>,
    lines: mpsc::Sender<String>,
    ended: watch::Receiver<Option<CloseReason>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Takes a request out of the table, and tells the server, unless it was answered.
struct Leaver<'a> {
    pipe: &'a Pipe,
    id: u64,
    reason: &'static str,
}

impl Drop for Leaver<'_> {
    fn drop(&mut self) {
        if self.pipe.pending.leave(self.id) {
            // A full queue means the server reads nothing; a cancellation would not be read either.
            let _ = self
                .pipe
                .lines
                .try_send(wire::encode_cancelled(self.id, self.reason));
        }
    }
}

impl Pipe {
    /// Starts the two tasks.
    pub(crate) fn start(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        limits: WireLimits,
        inbound: mpsc::Sender<Inbound>,
    ) -> Self {
        let pending = Arc::new(Pending::new(limits.in_flight));
        let (lines, queue) = mpsc::channel(WRITE_QUEUE);
        let (end, ended) = watch::channel(None);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let deaf = CancellationToken::new();
        tasks.spawn(write_lines(writer, queue, stop.clone(), deaf.clone()));
        let reading = Reading {
            pending: Arc::clone(&pending),
            inbound,
            lines: lines.downgrade(),
            limit: limits.frame_bytes,
            blamed: AtomicBool::new(false),
        };
        let stopped = stop.clone();
        tasks.spawn(async move {
            let reason = tokio::select! {
                reason = reading.run(reader) => reason,
                () = stopped.cancelled() => CloseReason::Asked,
                () = async { deaf.cancelled().await; tokio::time::sleep(DEAF_GRACE).await } =>
                    CloseReason::Lost("the server closed its input".to_owned()),
            };
            end.send_replace(Some(reason));
        });
        tasks.close();
        Self {
            pending,
            lines,
            ended,
            stop,
            tasks,
        }
    }

    /// Sends a request line and waits for its answer.
    pub(crate) async fn exchange(
        &self,
        id: u64,
        line: String,
        request: &Request,
    ) -> Result<Box<RawValue>, RequestError> {
        let entered = self.pending.enter(id, request)?;
        self.until_answered((id, line), request.timeout, entered)
            .await
    }

    /// Sends the line of a request that stays open, and waits for its end.
    pub(crate) async fn stand(
        &self,
        id: u64,
        line: String,
        request: &Request,
    ) -> Result<Box<RawValue>, RequestError> {
        let entered = self.pending.enter_standing(id, request.progress.clone());
        self.until_answered((id, line), request.timeout, entered)
            .await
    }

    async fn until_answered(
        &self,
        (id, line): (u64, String),
        timeout: Duration,
        entered: Option<Answer>,
    ) -> Result<Box<RawValue>, RequestError> {
        let Some(answer) = entered else {
            return Err(RequestError::Closed {
                executed: Executed::No,
            });
        };
        let mut leaver = Leaver {
            pipe: self,
            id,
            reason: "the caller gave up",
        };
        let exchanged = tokio::time::timeout(timeout, async {
            if self.lines.send(line).await.is_err() {
                return Err(RequestError::Closed {
                    executed: Executed::No,
                });
            }
            answer.await.unwrap_or(Err(RequestError::Closed {
                executed: Executed::Unknown,
            }))
        });
        match exchanged.await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                leaver.reason = "the deadline passed";
                Err(RequestError::Timeout { after: timeout })
            }
        }
    }

    /// Sends a line nobody answers.
    pub(crate) async fn send(&self, line: String, timeout: Duration) -> Result<(), RequestError> {
        match tokio::time::timeout(timeout, self.lines.send(line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(RequestError::Closed {
                executed: Executed::No,
            }),
            Err(_) => Err(RequestError::Timeout { after: timeout }),
        }
    }

    /// Resolves when the reading end is over.
    pub(crate) async fn ended(&self) -> CloseReason {
        let mut ended = self.ended.clone();
        let reason = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        reason.unwrap_or(CloseReason::Asked)
    }

    /// Whether the reading end is over.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Closes the writing end; the peer sees the end of its input once what is queued was written.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for both tasks.
    pub(crate) async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn write_lines(
    mut writer: impl AsyncWrite + Send + Unpin,
    mut queue: mpsc::Receiver<String>,
    stop: CancellationToken,
    deaf: CancellationToken,
) {
    let mut batch = Vec::with_capacity(1024);
    loop {
        let first = tokio::select! {
            biased;
            line = queue.recv() => line,
            () = stop.cancelled() => None,
        };
        let Some(first) = first else { break };
        batch.clear();
        push_line(&mut batch, &first);
        while batch.len() < WRITE_BATCH_BYTES
            && let Ok(line) = queue.try_recv()
        {
            push_line(&mut batch, &line);
        }
        let written = tokio::select! {
            // What the peer takes at once is written even when the end has come.
            biased;
            written = async { writer.write_all(&batch).await?; writer.flush().await } => written,
            () = stop.cancelled() => break,
        };
        if written.is_err() {
            deaf.cancel();
            break;
        }
        if batch.capacity() > WRITE_BATCH_BYTES {
            batch = Vec::with_capacity(1024);
        }
    }
    // The peer's end of input. An error means it is gone already.
    let _ = writer.shutdown().await;
}

fn push_line(batch: &mut Vec<u8>, line: &str) {
    batch.extend_from_slice(line.as_bytes());
    batch.push(b'\n');
}
