//! Text as a frame: one pass over the bytes, nothing unknown in the envelope, nothing missing.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::payload::Failure;
use super::{CallResult, Frame, Invoke, InvokeMethod, Kind, Part, Payload, Stream};
use crate::tunnel::id::{AgentId, ReqId};
use crate::tunnel::limits::{FRAME_BYTES, PROTOCOL};

/// Why a text is no frame. Says nothing of what it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Longer than [`FRAME_BYTES`].
    #[error("a frame over {FRAME_BYTES} bytes")]
    TooLarge,
    /// No JSON, or a member of the envelope is missing, unknown, twice there or of a wrong kind.
    #[error("no envelope of this protocol")]
    Envelope,
    /// `v` is another one.
    #[error("an envelope of another version")]
    Version,
    /// A type nobody knows.
    #[error("an unknown type of frame")]
    Type,
    /// The payload is none of its type.
    #[error("a payload that does not fit {}", .0.as_str())]
    Payload(Kind),
    /// A frame about a call names none, or one about no call does.
    #[error("a {} with a wrong req_id", .0.as_str())]
    ReqId(Kind),
}

/// What a connection knows already, so that it is not copied for each frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) agent_id: &'a AgentId,
    pub(crate) conn_session_id: Option<&'a Arc<str>>,
}

impl Frame {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`BadFrame`].
    pub fn decode(text: &str) -> Result<Self, BadFrame> {
        Self::decode_known(text, None)
    }

    /// As [`Frame::decode`], sharing the ids that are expected.
    pub(crate) fn decode_known(text: &str, known: Option<Known<'_>>) -> Result<Self, BadFrame> {
        if text.len() > FRAME_BYTES {
            return Err(BadFrame::TooLarge);
        }
        let mut found = None;
        let mut reader = serde_json::Deserializer::from_str(text);
        let seed = EnvelopeSeed { found: &mut found };
        let read = seed.deserialize(&mut reader).and_then(|()| reader.end());
        // What was found wrong in a member says more than that the envelope did not come to its end.
        match (read, found) {
            (_, Some(Found::Wrong(bad))) => Err(bad),
            (Ok(()), Some(Found::Whole(parts))) => parts.into_frame(known),
            _ => Err(BadFrame::Envelope),
        }
    }
}

enum Found<'a> {
    Wrong(BadFrame),
    Whole(Box<Members<'a>>),
}

/// The members of the envelope.
struct Members<'a> {
    kind: Kind,
    agent_id: Cow<'a, str>,
    req_id: Option<Cow<'a, str>>,
    conn_session_id: Option<Cow<'a, str>>,
    seq: u64,
    ts: u64,
    payload: Payload,
}

impl Members<'_> {
    fn into_frame(self, known: Option<Known<'_>>) -> Result<Frame, BadFrame> {
        let agent_id = match known {
            Some(known) if known.agent_id.as_str() == self.agent_id => known.agent_id.clone(),
            _ => AgentId::new(&self.agent_id).map_err(|_| BadFrame::Envelope)?,
        };
        let req_id = match self.req_id {
            None => None,
            Some(id) => Some(ReqId::new(&*id).map_err(|_| BadFrame::ReqId(self.kind))?),
        };
        if self.kind.names_call() != req_id.is_some() {
            return Err(BadFrame::ReqId(self.kind));
        }
        let expected = known.and_then(|known| known.conn_session_id);
        let conn_session_id = match (self.conn_session_id, expected) {
            (None, _) => None,
            (Some(id), Some(expected)) if *id == **expected => Some(Arc::clone(expected)),
            (Some(id), _) if id.len() <= 128 => Some(Arc::from(&*id)),
            (Some(_), _) => return Err(BadFrame::Envelope),
        };
        Ok(Frame {
            agent_id,
            req_id,
            conn_session_id,
            seq: self.seq,
            ts: self.ts,
            payload: self.payload,
        })
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    V,
    Type,
    AgentId,
    ReqId,
    ConnSessionId,
    Seq,
    Ts,
    Payload,
}

/// A text of the envelope, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct EnvelopeSeed<'s, 'a> {
    found: &'s mut Option<Found<'a>>,
}

impl<'a> DeserializeSeed<'a> for EnvelopeSeed<'_, 'a> {
    type Value = ();
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// What has been read so far.
#[derive(Default)]
struct Gathered<'a> {
    v: Option<u32>,
    kind: Option<Kind>,
    agent_id: Option<Text<'a>>,
    req_id: Option<Text<'a>>,
    conn_session_id: Option<Text<'a>>,
    seq: Option<u64>,
    ts: Option<u64>,
    payload: Option<Payload>,
    /// A payload that came before its type.
    raw: Option<&'a RawValue>,
}

/// Reads a member that may be there once.
fn once<'a, T: Deserialize<'a>, A: MapAccess<'a>>(
    slot: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::custom("twice"));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}

impl EnvelopeSeed<'_, '_> {
    fn wrong<E: de::Error>(self, bad: BadFrame) -> E {
        *self.found = Some(Found::Wrong(bad));
        E::custom(bad)
    }
}

impl<'a> Visitor<'a> for EnvelopeSeed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut gathered = Gathered::default();
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::V => {
                    once(&mut gathered.v, &mut map)?;
                    if gathered.v != Some(PROTOCOL) {
                        return Err(self.wrong(BadFrame::Version));
                    }
                }
                Field::Type => {
                    let mut name: Option<Text<'a>> = None;
                    once(&mut name, &mut map)?;
                    let kind = name.and_then(|name| Kind::of(&name.0));
                    if gathered.kind.is_some() {
                        return Err(A::Error::custom("twice"));
                    }
                    let Some(kind) = kind else {
                        return Err(self.wrong(BadFrame::Type));
                    };
                    gathered.kind = Some(kind);
                }
                Field::AgentId => once(&mut gathered.agent_id, &mut map)?,
                Field::ReqId => once(&mut gathered.req_id, &mut map)?,
                Field::ConnSessionId => once(&mut gathered.conn_session_id, &mut map)?,
                Field::Seq => once(&mut gathered.seq, &mut map)?,
                Field::Ts => once(&mut gathered.ts, &mut map)?,
                Field::Payload if gathered.payload.is_some() || gathered.raw.is_some() => {
                    return Err(A::Error::custom("twice"));
                }
                Field::Payload => match gathered.kind {
                    Some(kind) => match map.next_value_seed(PayloadSeed(kind)) {
                        Ok(payload) => gathered.payload = Some(payload),
                        Err(_) => return Err(self.wrong(BadFrame::Payload(kind))),
                    },
                    None => gathered.raw = Some(map.next_value()?),
                },
            }
        }
        self.whole(gathered)
    }
}

impl<'a> EnvelopeSeed<'_, 'a> {
    fn whole<E: de::Error>(self, gathered: Gathered<'a>) -> Result<(), E> {
        let missing = || E::custom("missing");
        let kind = gathered.kind.ok_or_else(missing)?;
        let payload = match (gathered.payload, gathered.raw) {
            (Some(payload), _) => payload,
            (None, Some(raw)) => match parse_payload(kind, raw.get()) {
                Ok(payload) => payload,
                Err(bad) => return Err(self.wrong(bad)),
            },
            (None, None) => return Err(missing()),
        };
        gathered.v.ok_or_else(missing)?;
        let members = Members {
            kind,
            agent_id: gathered.agent_id.ok_or_else(missing)?.0,
            req_id: gathered.req_id.map(|text| text.0),
            conn_session_id: gathered.conn_session_id.map(|text| text.0),
            seq: gathered.seq.ok_or_else(missing)?,
            ts: gathered.ts.ok_or_else(missing)?,
            payload,
        };
        *self.found = Some(Found::Whole(Box::new(members)));
        Ok(())
    }
}

/// Reads a payload of its own text.
pub(super) fn parse_payload(kind: Kind, text: &str) -> Result<Payload, BadFrame> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = PayloadSeed(kind).deserialize(&mut reader);
    read.and_then(|payload| reader.end().map(|()| payload))
        .map_err(|_| BadFrame::Payload(kind))
}

struct PayloadSeed(Kind);

impl<'a> DeserializeSeed<'a> for PayloadSeed {
    type Value = Payload;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<Payload, D::Error> {
        Ok(match self.0 {
            Kind::Hello => Payload::Hello(Box::deserialize(from)?),
            Kind::Auth => Payload::Auth(Deserialize::deserialize(from)?),
            Kind::HelloAck => Payload::HelloAck(Box::deserialize(from)?),
            Kind::InvokeAck => Payload::InvokeAck(Deserialize::deserialize(from)?),
            Kind::Chunk => Payload::Chunk(Deserialize::deserialize(from)?),
            Kind::Cancel => Payload::Cancel(Deserialize::deserialize(from)?),
            Kind::CancelAck => Payload::CancelAck(Deserialize::deserialize(from)?),
            Kind::Goodbye => Payload::Goodbye(Deserialize::deserialize(from)?),
            Kind::ResultAck => nothing(from, Payload::ResultAck)?,
            Kind::Ping => nothing(from, Payload::Ping)?,
            Kind::Pong => nothing(from, Payload::Pong)?,
            Kind::Result => ResultWire::deserialize(from)?.into_payload()?,
            Kind::Invoke => InvokeWire::deserialize(from)?.into_payload()?,
            // Rare and large: looked at twice.
            Kind::Tools => part_or(from, Kind::Tools, |raw| {
                serde_json::from_str(raw).map(Payload::Tools)
            })?,
            Kind::Configure => part_or(from, Kind::Configure, |raw| {
                serde_json::from_str(raw).map(Payload::Configure)
            })?,
        })
    }
}

/// An object in which nothing matters.
fn nothing<'a, D: Deserializer<'a>>(from: D, payload: Payload) -> Result<Payload, D::Error> {
    struct Object;
    impl<'a> Visitor<'a> for Object {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(())
        }
    }
    from.deserialize_map(Object).map(|()| payload)
}

fn part_or<'a, D: Deserializer<'a>>(
    from: D,
    kind: Kind,
    whole: impl Fn(&str) -> serde_json::Result<Payload>,
) -> Result<Payload, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    if let Ok(part) = serde_json::from_str::<Part>(raw.get()) {
        return Ok(Payload::Part(kind, part));
    }
    whole(raw.get()).map_err(D::Error::custom)
}

/// A part, when all its members are there; a mixture is neither.
macro_rules! part_of {
    ($wire:expr, $kind:expr) => {
        match ($wire.part, $wire.parts, $wire.data) {
            (None, None, None) => {}
            (Some(part), Some(parts), Some(data)) => {
                return Ok(Payload::Part($kind, Part { part, parts, data }));
            }
            _ => return Err(E::custom("half a part")),
        }
    };
}

#[derive(Deserialize)]
struct ResultWire {
    #[serde(default)]
    part: Option<u32>,
    #[serde(default)]
    parts: Option<u32>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    ok: Option<bool>,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    result_json: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<Failure>,
}

impl ResultWire {
    fn into_payload<E: de::Error>(self) -> Result<Payload, E> {
        part_of!(self, Kind::Result);
        let ok = self.ok.ok_or_else(|| E::missing_field("ok"))?;
        // A result without one, or an error of which nothing is said, is neither.
        if ok != self.result_json.is_some() || ok == self.error.is_some() {
            return Err(E::custom("neither a result nor an error"));
        }
        Ok(Payload::Result(CallResult {
            ok,
            exit_code: self.exit_code,
            canceled: self.canceled,
            result_json: self.result_json,
            error: self.error,
        }))
    }
}

#[derive(Deserialize)]
struct InvokeWire {
    #[serde(default)]
    part: Option<u32>,
    #[serde(default)]
    parts: Option<u32>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    method: Option<InvokeMethod>,
    #[serde(default)]
    params: Option<Box<RawValue>>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    deadline_ts: u64,
    #[serde(default)]
    stream: Stream,
    #[serde(default)]
    isolation_key: String,
}

impl InvokeWire {
    fn into_payload<E: de::Error>(self) -> Result<Payload, E> {
        part_of!(self, Kind::Invoke);
        Ok(Payload::Invoke(Box::new(Invoke {
            server: self.server.ok_or_else(|| E::missing_field("server"))?,
            method: self.method.ok_or_else(|| E::missing_field("method"))?,
            params: self.params.ok_or_else(|| E::missing_field("params"))?,
            timeout_ms: self
                .timeout_ms
                .ok_or_else(|| E::missing_field("timeout_ms"))?,
            deadline_ts: self.deadline_ts,
            stream: self.stream,
            isolation_key: self.isolation_key,
        })))
    }
}
