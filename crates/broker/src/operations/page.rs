//! Pages of lists: opaque cursors, bounded sizes.

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
