//! Payloads too large for one frame: cut into numbered parts, put together again with a bound.

use super::{BadFrame, Kind, Part, Payload, read_payload};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::{PART_BYTES, PARTS, RESULT_BYTES};

/// Cuts a payload's text on character borders. At most [`PARTS`] pieces for [`RESULT_BYTES`].
pub(super) fn pieces(text: &str) -> impl Iterator<Item = Part> {
    let cuts = || {
        let mut rest = text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
            rest = after;
            Some(piece)
        })
    };
    let parts = u32::try_from(cuts().count()).unwrap_or(u32::MAX);
    cuts().zip(1..).map(move |(piece, part)| Part {
        part,
        parts,
        data: piece.to_owned(),
    })
}

/// A part that does not fit what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPart {
    /// Its number is not the next one, or another payload is not whole yet.
    #[error("a part out of turn")]
    Order,
    /// Together they pass [`RESULT_BYTES`].
    #[error("the parts are larger than a payload may be")]
    TooLarge,
    /// The whole is no such payload.
    #[error("{0}")]
    Payload(#[from] BadFrame),
}

#[derive(Debug)]
struct Partial {
    kind: Kind,
    req_id: Option<ReqId>,
    parts: u32,
    next: u32,
    text: String,
}

/// The payload that is being put together on a connection: one at a time, so that memory is bounded.
#[derive(Debug, Default)]
pub struct Assembly(Option<Partial>);

impl Assembly {
    /// Takes a part; gives the payload when it was the last one.
    ///
    /// # Errors
    /// [`BadPart`]; what was gathered is thrown away then.
    pub fn take(
        &mut self,
        req_id: Option<&ReqId>,
        kind: Kind,
        part: &Part,
    ) -> Result<Option<Payload>, BadPart> {
        let begun = self.0.take();
        let mut partial = match begun {
            None if part.part == 1 && (2..=PARTS).contains(&(part.parts as usize)) => Partial {
                kind,
                req_id: req_id.cloned(),
                parts: part.parts,
                next: 1,
                text: String::new(),
            },
            Some(partial)
                if (partial.kind, partial.req_id.as_ref()) == (kind, req_id)
                    && (partial.next, partial.parts) == (part.part, part.parts) =>
            {
                partial
            }
            None | Some(_) => return Err(BadPart::Order),
        };
        if partial.text.len() + part.data.len() > RESULT_BYTES {
            return Err(BadPart::TooLarge);
        }
        partial.text.push_str(&part.data);
        if partial.next == partial.parts {
            return Ok(Some(read_payload(kind, &partial.text)?));
        }
        partial.next += 1;
        self.0 = Some(partial);
        Ok(None)
    }

    /// Forgets what was gathered; the connection is gone.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}
