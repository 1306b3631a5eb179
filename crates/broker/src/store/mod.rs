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

#[expect(
    missing_docs,
    clippy::unused_async,
    clippy::missing_errors_doc,
    reason = "stubs until the store lands"
)]
impl Store {
    pub async fn ping(&self) -> Result<(), StoreError> {
        todo!()
    }
    pub async fn shutdown(&self) {
        todo!()
    }
    pub async fn flush(&self) {
        todo!()
    }
    pub async fn sweep_calls(&self, _node: &str) -> Result<u64, StoreError> {
        todo!()
    }
    pub(crate) async fn load_servers(&self) -> Result<Vec<crate::registry::Saved>, StoreError> {
        todo!()
    }
    pub(crate) async fn save_server(
        &self,
        _: &crate::registry::Saved,
        _: Option<u64>,
    ) -> Result<bool, StoreError> {
        todo!()
    }
    pub async fn delete_server(
        &self,
        _: &sessions::WorkspaceId,
        _: &transports::ServerName,
        _: u64,
        _: &str,
    ) -> Result<bool, StoreError> {
        todo!()
    }
    pub(crate) async fn server_versions(
        &self,
        _: &sessions::WorkspaceId,
        _: &transports::ServerName,
    ) -> Result<Vec<crate::registry::Saved>, StoreError> {
        todo!()
    }
    pub async fn begin_call(&self, _: &crate::ledger::Intent) -> Result<bool, StoreError> {
        todo!()
    }
    pub async fn find_by_key(
        &self,
        _: &crate::ledger::Intent,
    ) -> Result<Option<crate::ledger::Row>, StoreError> {
        todo!()
    }
    pub async fn settle_call(&self, _: &crate::ledger::Settled) -> Result<bool, StoreError> {
        todo!()
    }
    pub fn record_call(&self, _: crate::ledger::Intent, _: crate::ledger::Settled) {
        todo!()
    }
    pub async fn get_call(
        &self,
        _: &sessions::WorkspaceId,
        _: crate::CallId,
    ) -> Result<Option<crate::ledger::Row>, StoreError> {
        todo!()
    }
    pub async fn list_calls(
        &self,
        _: &crate::ledger::RowFilter,
    ) -> Result<Vec<crate::ledger::Row>, StoreError> {
        todo!()
    }
}
