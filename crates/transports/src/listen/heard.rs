//! How a server met what is wanted, for those who wait for it.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use crate::error::RequestError;

/// How the server met what is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// The change of [`Wanted`] this answers; later ones are not answered yet.
    pub(crate) version: u64,
    /// The resources it will tell of.
    pub(crate) resources: BTreeSet<String>,
    /// Why it tells of none.
    pub(crate) refusal: Option<Refusal>,
}

/// A refusal, for as many as asked.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    Rpc(i64, String, Option<Box<RawValue>>),
    Other(String),
}

impl Refusal {
    pub(super) fn of(error: RequestError) -> Self {
        match error {
            RequestError::Rpc {
                code,
                message,
                data,
            } => Self::Rpc(code, message, data),
            other => Self::Other(other.to_string()),
        }
    }

    /// As the error of a request.
    pub(crate) fn into_error(self) -> RequestError {
        match self {
            Self::Rpc(code, message, data) => RequestError::Rpc {
                code,
                message,
                data,
            },
            Self::Other(detail) => RequestError::Protocol { detail },
        }
    }
}
