//! What the server of a running call asks back: every question stands here until somebody answers it, the server
//! takes it back, or its time is over. Sends nothing itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use transports::Notification;

use super::naming::Names;
use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};
use crate::operations::calls::CallDone;

/// Questions of one call that may be open at once; a server that asks more is answered with an error.
const MAX_QUESTIONS: usize = 32;
/// What one follower of a call may fall behind by; past it progress and logs are lost, questions are not.
const FOLLOWED: usize = 256;

/// Something the server asks its client while it works on a call: `elicitation/create`,
/// `sampling/createMessage` or `roots/list`.
#[derive(Debug, Clone)]
pub struct InputRequest {
    /// Names the question within its call; the answer is given under it.
    pub key: String,
    /// The method.
    pub method: String,
    /// Raw `params`, untouched.
    pub params: Option<Box<RawValue>>,
}

/// What is answered to one question.
#[derive(Debug, Clone)]
pub enum InputAnswer {
    /// The raw result, as the method's specification has it.
    Result(Box<RawValue>),
    /// A JSON-RPC error.
    Error {
        /// Its code.
        code: i64,
        /// Its message.
        message: String,
    },
}

/// What a follower of a call sees.
#[derive(Debug)]
pub enum Happening {
    /// Progress, a log, or whatever the server says on the call's own stream; in order, before the end.
    Notice(Notification),
    /// The server waits for answers to these.
    Input(Vec<InputRequest>),
    /// The server asked this, which the caller's client did not offer to answer, and was told so.
    Beyond(String),
    /// This question needs no answer any more.
    Withdrawn(String),
    /// The call has ended; nothing follows.
    Ended(Result<CallDone, BrokerError>),
}

#[derive(Debug)]
struct Question {
    request: InputRequest,
    answer: oneshot::Sender<InputAnswer>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Question>,
    names: Names,
    follower: Option<mpsc::Sender<Happening>>,
}

/// The open questions of one call, and who follows it.
#[derive(Debug, Default)]
pub(crate) struct Dialogue(Mutex<State>);

impl Dialogue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the call from now on, in the place of an earlier follower; open questions are told again.
    pub(crate) fn follow(&self) -> mpsc::Receiver<Happening> {
        let (told, follower) = mpsc::channel(FOLLOWED);
        let mut state = self.state();
        let open: Vec<_> = state.open.iter().map(|q| q.request.clone()).collect();
        if !open.is_empty() {
            // The channel is new and empty.
            let _ = told.try_send(Happening::Input(open));
        }
        state.follower = Some(told);
        follower
    }

    /// Tells the follower, if there is one; `false` when it fell behind and this was lost.
    pub(crate) fn notice(&self, notification: Notification) -> bool {
        let follower = self.state().follower.clone();
        follower.is_none_or(|follower| {
            let sent = follower.try_send(Happening::Notice(notification));
            !matches!(sent, Err(mpsc::error::TrySendError::Full(_)))
        })
    }

    /// Tells the follower that this could not be asked.
    pub(crate) fn beyond(&self, method: &str) {
        if let Some(follower) = self.state().follower.clone() {
            // A follower that fell behind sees what the server makes of it all the same.
            let _ = follower.try_send(Happening::Beyond(method.to_owned()));
        }
    }

    /// Asks several things at once. `None` for a key: one of [`Names`]. Each answer comes on its own receiver.
    pub(crate) async fn ask(
        &self,
        questions: Vec<(Option<String>, String, Option<Box<RawValue>>)>,
    ) -> Result<Vec<(InputRequest, oneshot::Receiver<InputAnswer>)>, TooManyQuestions> {
        let (asked, follower) = {
            let mut state = self.state();
            if state.open.len() + questions.len() > MAX_QUESTIONS {
                return Err(TooManyQuestions);
            }
            let mut asked = Vec::with_capacity(questions.len());
            for (key, method, params) in questions {
                let key = key.unwrap_or_else(|| state.names.next(&method, params.as_deref()));
                let request = InputRequest {
                    key,
                    method,
                    params,
                };
                let (answer, receiver) = oneshot::channel();
                state.open.push(Question {
                    request: request.clone(),
                    answer,
                });
                asked.push((request, receiver));
            }
            (asked, state.follower.clone())
        };
        if let Some(follower) = follower {
            let requests = asked.iter().map(|(request, _)| request.clone()).collect();
            // A follower that is gone leaves the questions to whoever answers by id.
            let _ = follower.send(Happening::Input(requests)).await;
        }
        Ok(asked)
    }

    /// The open questions.
    pub(crate) fn open(&self) -> Vec<InputRequest> {
        let state = self.state();
        state.open.iter().map(|q| q.request.clone()).collect()
    }

    /// Answers some of the open questions; all or none.
    pub(crate) fn answer(&self, answers: Vec<(String, InputAnswer)>) -> Result<(), BrokerError> {
        let mut state = self.state();
        if state.open.is_empty() {
            let detail = "the call waits for no input";
            return Err(Fault::new(ErrorCode::Conflict, detail));
        }
        let known = |key: &str| state.open.iter().any(|q| q.request.key == key);
        let unknown: Vec<_> = answers.iter().filter(|(key, _)| !known(key)).collect();
        if !unknown.is_empty() || answers.is_empty() {
            let mut fault = Fault::new(ErrorCode::InvalidArguments, "no such question is open");
            fault.errors = unknown
                .iter()
                .map(|(key, _)| PointerDetail {
                    pointer: format!("/responses/{}", key.replace('~', "~0").replace('/', "~1")),
                    detail: "no such question is open".to_owned(),
                })
                .collect();
            let keys: Vec<_> = state.open.iter().map(|q| q.request.key.as_str()).collect();
            fault.hint = Some(format!("open: {}", keys.join(", ")));
            return Err(fault);
        }
        for (key, answer) in answers {
            let at = state.open.iter().position(|q| q.request.key == key);
            // A key given twice counts once.
            let Some(at) = at else { continue };
            let question = state.open.remove(at);
            let _ = question.answer.send(answer);
        }
        Ok(())
    }

    /// Takes a question back: its server no longer waits, or its time is over.
    pub(crate) fn withdraw(&self, key: &str) {
        let follower = {
            let mut state = self.state();
            let before = state.open.len();
            state.open.retain(|q| q.request.key != key);
            if state.open.len() == before {
                return;
            }
            state.follower.clone()
        };
        if let Some(follower) = follower {
            // A follower that fell so far behind hears of it when its answer is refused.
            let _ = follower.try_send(Happening::Withdrawn(key.to_owned()));
        }
    }
}

/// More questions than one call may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyQuestions;

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn question() -> (Option<String>, String, Option<Box<RawValue>>) {
        (None, "roots/list".to_owned(), None)
    }

    #[tokio::test]
    async fn an_answer_reaches_its_question_and_only_that_one() {
        let dialogue = Dialogue::default();
        let mut asked = dialogue.ask(vec![question(), question()]).await.unwrap();
        let answer = InputAnswer::Result(raw("{\"roots\":[]}"));
        dialogue
            .answer(vec![("client_roots_2".to_owned(), answer)])
            .unwrap();
        let (_, second) = asked.pop().unwrap();
        let InputAnswer::Result(result) = second.await.unwrap() else {
            panic!("a result")
        };
        assert_eq!(result.get(), "{\"roots\":[]}");
        assert_eq!(dialogue.open().len(), 1);
        assert_eq!(dialogue.open()[0].key, "client_roots");
    }

    #[tokio::test]
    async fn an_unknown_key_answers_nothing_at_all() {
        let dialogue = Dialogue::default();
        let none = dialogue.answer(vec![("1".to_owned(), InputAnswer::Result(raw("{}")))]);
        assert_eq!(none.unwrap_err().code, ErrorCode::Conflict);
        let _asked = dialogue.ask(vec![question()]).await.unwrap();
        let answers =
            ["client_roots", "a/b"].map(|key| (key.to_owned(), InputAnswer::Result(raw("{}"))));
        let fault = dialogue.answer(answers.into()).unwrap_err();
        assert_eq!(fault.code, ErrorCode::InvalidArguments);
        assert_eq!(fault.errors[0].pointer, "/responses/a~1b");
        assert_eq!(dialogue.open().len(), 1);
    }

    #[tokio::test]
    async fn who_follows_later_is_told_what_is_still_open() {
        let dialogue = Dialogue::default();
        let _asked = dialogue.ask(vec![question()]).await.unwrap();
        let mut follower = dialogue.follow();
        let Some(Happening::Input(open)) = follower.recv().await else {
            panic!("the open question")
        };
        assert_eq!(open[0].key, "client_roots");
        dialogue.withdraw("client_roots");
        assert!(
            matches!(follower.recv().await, Some(Happening::Withdrawn(key)) if key == "client_roots")
        );
    }

    #[tokio::test]
    async fn a_server_that_asks_without_end_is_stopped() {
        let dialogue = Dialogue::default();
        let many = (0..MAX_QUESTIONS).map(|_| question()).collect();
        let _asked = dialogue.ask(many).await.unwrap();
        let more = dialogue.ask(vec![question()]).await;
        assert_eq!(more.unwrap_err(), TooManyQuestions);
    }
}
