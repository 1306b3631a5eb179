//! The one database: SQLite or PostgreSQL behind one SQL text. See `migrations/`.

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is locked, full or read-only.
    #[error("the store is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The URL is neither `sqlite://…` nor `postgres://…`.
    #[error("the store URL must start with sqlite:// or postgres://")]
    Url,
    /// A migration failed.
    #[error("the store's schema could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row holds what no version of this program wrote.
    #[error("the store holds an unreadable row: {0}")]
    Corrupt(String),
}

/// The one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {}
