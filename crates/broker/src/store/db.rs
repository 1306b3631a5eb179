//! The two databases behind one SQL text. Opens and migrates; knows no table.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{Executor as _, Row as _};

use super::StoreError;

/// Readers of a SQLite file beside the one writer.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 8;
/// How long a caller waits for a connection: the contract wants `store_unavailable` within two seconds.
const PATIENCE: Duration = Duration::from_millis(1500);
/// What every SQLite connection is told. NORMAL in WAL mode: a commit survives the process being killed;
/// a power cut may undo the last ones (docs/decisions/0003-sqlite-durability.md).
const SQLITE_PRAGMAS: &str =
    "PRAGMA busy_timeout = 1500; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;";

/// `($1, $2), ($3, $4)` for so many rows of so many columns. Numbered, as both databases take them.
pub(super) fn placeholders(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let comma = if column == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}${}", row * columns + column + 1);
        }
        text.push(')');
    }
    text
}

/// An open database.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    /// Reads.
    pub(crate) read: AnyPool,
    /// Writes; for SQLite the only writer of this process.
    pub(crate) write: AnyPool,
}

impl Db {
    /// Opens `sqlite://PATH` or `postgres://…` and brings the schema up to date.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        install_default_drivers();
        let db = if let Some(path) = url.strip_prefix("sqlite://") {
            Self::sqlite(path).await?
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let pool = AnyPoolOptions::new()
                .max_connections(POSTGRES_CONNECTIONS)
                .acquire_timeout(PATIENCE);
            let pool = pool.connect(url).await?;
            Self {
                read: pool.clone(),
                write: pool,
            }
        } else {
            return Err(StoreError::Url);
        };
        sqlx::migrate!()
            .run(&db.write)
            .await
            .map_err(StoreError::Migrate)?;
        Ok(db)
    }

    async fn sqlite(path: &str) -> Result<Self, StoreError> {
        let pool = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE)
                .after_connect(|connection, _| {
                    Box::pin(async move { connection.execute(SQLITE_PRAGMAS).await.map(|_| ()) })
                })
        };
        let write = pool(1)
            .connect(&format!("sqlite://{path}?mode=rwc"))
            .await?;
        keep_private(path);
        let mode: String = sqlx::query("PRAGMA journal_mode = WAL")
            .fetch_one(&write)
            .await?
            .try_get(0)?;
        if mode != "wal" {
            tracing::warn!(
                journal_mode = mode,
                "the store's file system allows no write-ahead log; it will be slower"
            );
        }
        let read = pool(SQLITE_READERS).connect_lazy(&format!("sqlite://{path}?mode=ro"))?;
        Ok(Self { read, write })
    }

    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// The file holds digests of keys and arguments' names: nobody else on the machine needs to read it.
fn keep_private(path: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let private = std::fs::Permissions::from_mode(0o600);
    if let Err(error) = std::fs::set_permissions(path, private) {
        tracing::warn!(error = %error.kind(), "the store's file could not be made private");
    }
}
