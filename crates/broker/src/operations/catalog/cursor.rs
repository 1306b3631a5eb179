//! Where a page of the catalogue begins, as an opaque text that survives changes of the catalogue.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catalog::{Entry, Kind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ListCatalog;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::operations::page::bad_cursor;

/// Where a page begins: how many entries were shown, of which catalogue, after which one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    /// Entries shown so far.
    o: usize,
    /// The catalogue they were of.
    h: String,
    /// The question they answered.
    q: String,
    /// The last one.
    k: Option<(Kind, String)>,
    #[serde(skip)]
    same: bool,
    #[serde(skip)]
    ranked: bool,
}

impl Cursor {
    pub(super) fn read(request: &ListCatalog, hash: &str) -> Result<Self, BrokerError> {
        let ranked = !request.queries.is_empty();
        let question = serde_json::to_vec(&(&request.queries, &request.server, &request.kinds));
        let digest = Sha256::digest(question.unwrap_or_default());
        let q = URL_SAFE_NO_PAD.encode(&digest[..9]);
        let Some(text) = &request.page.cursor else {
            return Ok(Self {
                o: 0,
                h: hash.to_owned(),
                q,
                k: None,
                same: true,
                ranked,
            });
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad_cursor())?;
        let mut cursor: Self = serde_json::from_slice(&bytes).map_err(|_| bad_cursor())?;
        if cursor.q != q {
            return Err(bad_cursor());
        }
        cursor.same = cursor.h == hash;
        hash.clone_into(&mut cursor.h);
        cursor.ranked = ranked;
        Ok(cursor)
    }

    /// In a list that changed since, go on after the last entry shown; a ranking goes on by count.
    pub(super) fn place(&self, hits: &[(Arc<Entry>, Option<f32>)]) -> usize {
        match &self.k {
            Some((kind, reference)) if !self.same && !self.ranked => {
                let last = (*kind, reference.as_str());
                hits.iter()
                    .position(|(entry, _)| {
                        (entry.kind, entry.reference.to_string().as_str()) > last
                    })
                    .unwrap_or(hits.len())
            }
            _ => self.o.min(hits.len()),
        }
    }

    pub(super) fn next(&self, shown: usize, last: &Entry) -> Result<String, BrokerError> {
        let next = Self {
            o: shown,
            h: self.h.clone(),
            q: self.q.clone(),
            k: Some((last.kind, last.reference.to_string())),
            same: true,
            ranked: self.ranked,
        };
        let json = serde_json::to_vec(&next);
        let json =
            json.map_err(|_| Fault::new(ErrorCode::Internal, "a cursor cannot be written"))?;
        Ok(URL_SAFE_NO_PAD.encode(json))
    }
}
