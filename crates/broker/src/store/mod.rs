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

/// A server's catalogue as kept.
#[derive(Debug, Clone)]
pub struct KeptCatalog {
    /// The workspace.
    pub workspace: sessions::WorkspaceId,
    /// The server.
    pub server: transports::ServerName,
    /// Whose; `None` = the workspace's.
    pub user: Option<sessions::UserId>,
    /// 64 hex digits.
    pub hash: String,
    /// JSON.
    pub listing: String,
    /// When it was fetched.
    pub fetched_at: chrono::DateTime<chrono::Utc>,
}

impl Store {
    /// Every kept catalogue.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load_catalogs(&self) -> Result<Vec<KeptCatalog>, StoreError> {
        todo!("store")
    }

    /// Keeps a catalogue in place of the one before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_catalog(&self, kept: &KeptCatalog) -> Result<(), StoreError> {
        let _ = kept;
        todo!("store")
    }

    /// Forgets a server's catalogues.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_catalogs(
        &self,
        workspace: &sessions::WorkspaceId,
        server: &transports::ServerName,
    ) -> Result<(), StoreError> {
        let _ = (workspace, server);
        todo!("store")
    }
}
