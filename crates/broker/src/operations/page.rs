//! Pages of lists: opaque cursors, bounded sizes.

use crate::error::{BrokerError, ErrorCode, Fault};

/// Page size when the caller names none.
pub const DEFAULT_PAGE: usize = 50;
/// Largest page; keeps one answer well under the body limits of proxies.
pub const MAX_PAGE: usize = 500;

/// What part of a list is wanted.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// How many; [`DEFAULT_PAGE`] when `None`, `invalid_request` when 0 or over [`MAX_PAGE`].
    pub limit: Option<usize>,
    /// From an earlier answer.
    pub cursor: Option<String>,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The members.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

impl PageRequest {
    /// The page size.
    ///
    /// # Errors
    /// `invalid_request`.
    pub(crate) fn limit(&self) -> Result<usize, BrokerError> {
        let limit = self.limit.unwrap_or(DEFAULT_PAGE);
        if (1..=MAX_PAGE).contains(&limit) {
            return Ok(limit);
        }
        let detail = format!("limit must be 1 to {MAX_PAGE}");
        Err(Fault::new(ErrorCode::InvalidRequest, detail))
    }

    /// A page of a list that is at hand, sorted by a text key; the cursor is the last key shown.
    pub(crate) fn cut<T>(
        &self,
        items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<Page<T>, BrokerError> {
        let limit = self.limit()?;
        let after = |item: &T| {
            self.cursor
                .as_deref()
                .is_none_or(|last| key(item).as_str() > last)
        };
        let mut items: Vec<T> = items.into_iter().filter(after).take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(key);
        Ok(Page { items, next_cursor })
    }
}

/// A cursor nobody gave out.
pub(crate) fn bad_cursor() -> BrokerError {
    Fault::new(
        ErrorCode::InvalidRequest,
        "the cursor is not one of this list",
    )
}
