//! One running call as the messages its client gets: notices, questions, and one answer at the end.
//!
//! Translates between eras. Where the messages go is the stream's business.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use broker::operations::calls::CallDone;
use broker::{BrokerError, CallRun, Happening, InputAnswer, InputRequest};
use http::StatusCode;
use serde_json::value::RawValue;
use tokio::time::Instant;
use transports::Notification;

use super::call::Terms;
use super::ending::failure;
use super::facts::Question;
use super::frame::{Outgoing, Weight};
use super::lacking::Lacking;
use super::running::{CANNOT, Running, Runs, refused, run_to_its_end};
use super::visit::{Client, Visit};
use super::{held, notice, reply, tasks};

/// An older server that asks several things asks them one by one: what comes within this time of the first is put
/// to a modern client together.
const GATHERED: Duration = Duration::from_millis(100);

/// One running call.
#[derive(Debug)]
pub(super) struct Exchange {
    visit: Arc<Visit>,
    terms: Terms,
    /// `None` once it ended.
    call: Option<CallRun>,
    call_id: String,
    running: Option<Running>,
    /// Questions a modern client gets as the result.
    open: Vec<InputRequest>,
    /// What the server asked that the client did not declare to be able to answer.
    lacking: Lacking,
    /// When a modern request is answered although its call goes on: with questions, or as a task.
    leaves_at: Option<Instant>,
    ready: VecDeque<Outgoing>,
    /// The client takes nothing but the answer.
    mute: bool,
}

impl Exchange {
    /// A call that runs for this visit.
    pub(super) fn new(visit: Arc<Visit>, terms: Terms, call: CallRun) -> Self {
        let call_id = call.call_id().to_owned();
        let running = match &visit.client {
            Client::Legacy(session) => {
                let call = Runs {
                    id: call_id.clone(),
                    // Whoever gives up waiting for a task has not cancelled it.
                    cancels: !terms.of_task,
                };
                Running::begin(session, &terms.id, call)
            }
            Client::Modern(_) => None,
        };
        let leaves_at = terms.task_at();
        Self {
            visit,
            terms,
            call: Some(call),
            call_id,
            running,
            open: Vec::new(),
            lacking: Lacking::default(),
            leaves_at,
            ready: VecDeque::new(),
            mute: false,
        }
    }

    /// From now on nothing but the answer is given: the client takes no stream.
    pub(super) fn mute(&mut self) {
        self.mute = true;
    }

    /// The next message; the last one is the answer, and after it comes `None`. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Outgoing> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let call = self.call.as_mut()?;
            let happening = tokio::select! {
                biased;
                happening = call.next() => happening,
                () = at(self.leaves_at) => {
                    self.leave();
                    continue;
                }
            };
            match happening {
                Happening::Notice(notice) => self.notice(&notice),
                Happening::Input(requests) => self.see_to(requests),
                Happening::Withdrawn(key) => self.withdrawn(key),
                Happening::Beyond(method) => self.lacking.note(&method, None),
                Happening::Ended(outcome) => {
                    self.call = None;
                    let (status, json) = self.ended(outcome);
                    self.answer(status, json);
                }
            }
        }
    }

    fn answer(&mut self, status: StatusCode, json: Vec<u8>) {
        self.ready.push_back(Outgoing {
            json,
            weight: Weight::Answer,
            status,
        });
        self.running = None;
    }

    fn notice(&mut self, notice: &Notification) {
        if self.mute {
            return;
        }
        let wanted = (self.terms.token.as_deref(), self.task());
        if let Some(json) = notice::told(&self.visit.client, wanted, notice) {
            self.ready
                .push_back(Outgoing::on_the_way(json, Weight::Notice));
        }
    }

    /// The task of 2025-11-25 whose result is waited for.
    fn task(&self) -> Option<&str> {
        self.terms.of_task.then_some(&*self.call_id)
    }

    /// Sees to the questions in hand: answered already, beyond the client, or to be put to it.
    fn see_to(&mut self, requests: Vec<InputRequest>) {
        let abilities = self.visit.client.abilities();
        for request in requests {
            let answers = &mut self.terms.answers;
            let told = answers.iter().position(|(key, _)| *key == request.key);
            // What was brought for a later question waits for it.
            let told = told.map(|at| answers.swap_remove(at));
            let can =
                !self.mute && abilities.can_answer(&request.method, request.params.as_deref());
            match told {
                Some((_, result)) => self.settle(request.key, InputAnswer::Result(result)),
                None if can => self.put(request),
                None => {
                    if !self.mute {
                        let params = request.params.as_deref();
                        self.lacking.note(&request.method, params);
                    }
                    self.settle(request.key, refused(CANNOT));
                }
            }
        }
    }

    /// Answers a question of the server. One that was answered or withdrawn meanwhile needs none.
    fn settle(&self, key: String, answer: InputAnswer) {
        let broker = &self.visit.app.broker;
        let answers = vec![(key, answer)];
        if let Err(fault) = broker.answer_input(&self.visit.asker, &self.call_id, answers) {
            tracing::debug!(error = %fault, "a question needed no answer any more");
        }
    }

    /// Puts a question to the client: at once as a request of ours, or together with others as the result.
    fn put(&mut self, request: InputRequest) {
        let Client::Legacy(session) = &self.visit.client else {
            if self.open.is_empty() {
                self.leaves_at = Some(Instant::now() + GATHERED);
            }
            self.open.push(request);
            return;
        };
        let question = Question {
            call_id: self.call_id.clone(),
            key: request.key.clone(),
        };
        let Some(id) = session.ask(question) else {
            return self.settle(request.key, refused(CANNOT));
        };
        let marked = (self.task()).map(|task| tasks::related(request.params.as_deref(), task));
        let params = marked.as_deref().or(request.params.as_deref());
        let json = reply::message(Some(&id), &request.method, params.map(RawValue::get));
        self.ready
            .push_back(Outgoing::on_the_way(json, Weight::Question));
    }

    /// Ends this request while the call goes on: it waits for the client to come back with answers, or has become
    /// a task.
    fn leave(&mut self) {
        self.leaves_at = None;
        let Some(call) = self.call.take() else { return };
        let result = if self.open.is_empty() {
            tasks::begun(&call)
        } else {
            let state = held::seal(&self.visit, &self.terms.place, &self.call_id);
            held::result(&self.open, &state)
        };
        call.detach();
        self.answer(StatusCode::OK, reply::result(&self.terms.id, &result));
    }

    fn withdrawn(&mut self, key: String) {
        let Client::Legacy(session) = &self.visit.client else {
            self.open.retain(|request| request.key != key);
            if self.open.is_empty() {
                self.leaves_at = self.terms.task_at();
            }
            return;
        };
        let call_id = self.call_id.clone();
        if let Some(id) = session.withdraw(&Question { call_id, key }) {
            let params = format!(r#"{{"requestId":{}}}"#, id.raw());
            let json = reply::message(None, "notifications/cancelled", Some(&params));
            self.ready
                .push_back(Outgoing::on_the_way(json, Weight::Notice));
        }
    }

    fn ended(&self, outcome: Result<CallDone, BrokerError>) -> (StatusCode, Vec<u8>) {
        let Terms { id, shape, .. } = &self.terms;
        let modern = self.visit.client.revision().is_modern();
        let json = match outcome {
            Ok(done) => match self.task() {
                Some(task) => {
                    let result = tasks::related(Some(done.result.raw()), task);
                    reply::result(id, result.get().as_bytes())
                }
                None => shape.result(&done.result, modern, |raw, lacking| {
                    reply::server_result(id, raw, lacking)
                }),
            },
            Err(fault) => match failure(&self.visit, &fault, shape.failures) {
                Ok(result) => reply::result(id, &self.marked(result)),
                Err(error) => {
                    // An older server learns by asking what its client cannot do, and then fails in its own words.
                    let asked_in_vain = modern && fault.rpc.is_some();
                    let error = if asked_in_vain {
                        self.lacking.explain(error)
                    } else {
                        error
                    };
                    return (error.status(modern), reply::fault(Some(id), &error));
                }
            },
        };
        (StatusCode::OK, json)
    }

    /// A failure as the result of a task, where it is one.
    fn marked(&self, result: Vec<u8>) -> Vec<u8> {
        let Some(task) = self.task() else {
            return result;
        };
        let raw = serde_json::from_slice::<Box<RawValue>>(&result).ok();
        let marked = tasks::related(raw.as_deref(), task);
        marked.get().as_bytes().to_vec()
    }
}

impl Drop for Exchange {
    /// A legacy client that lost its connection has not cancelled anything: the call runs to its end, and
    /// can still be cancelled. A modern one has. A task goes on in any case.
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        if self.terms.of_task {
            return tasks::accompany(Arc::clone(&self.visit), call);
        }
        let Some(running) = self.running.take() else {
            return call.cancel();
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            let (visit, call_id) = (Arc::clone(&self.visit), std::mem::take(&mut self.call_id));
            let tasks = visit.mcp().tasks.clone();
            tasks.spawn(run_to_its_end(visit, call_id, (call, running)));
        }
    }
}

/// Pending for ever where there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
