//! The two databases behind one SQL text. Opens and migrates; knows no table.

use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{AnyPool, AssertSqlSafe, Error, Executor as _, Row as _};

use super::StoreError;
use super::reach::{BROWSING, PATIENCE, Reach};
use super::silence::Silence;

/// Readers of a SQLite file beside the one writer.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 8;
/// Longest the schema may take to be brought up to date; a large ledger is copied once.
const MIGRATION_PATIENCE: Duration = Duration::from_mins(10);
/// What every SQLite connection is told. NORMAL in WAL mode: a commit survives the process being killed;
/// a power cut may undo the last ones (docs/decisions/0003-sqlite-durability.md). It gives up on a lock so
/// soon that what waits behind another write is refused within two seconds, too. The log is copied back every 16 MiB.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout = 700; PRAGMA synchronous = NORMAL; \
     PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 4000;";

/// Which database it is: the few things the one SQL text cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// Whether an error means that the rows themselves were refused; then trying again is of no use.
    pub(super) fn refused_rows(self, error: &Error) -> bool {
        let Error::Database(error) = error else {
            return matches!(error, Error::Encode(_));
        };
        let code = error.code().unwrap_or_default();
        match self {
            // The low byte is the class: too big, constraint, mismatch, range.
            Self::Sqlite => code
                .parse::<u32>()
                .is_ok_and(|code| matches!(code & 0xff, 18 | 19 | 20 | 25)),
            // Data exceptions, integrity violations, program limits.
            Self::Postgres => ["22", "23", "54"]
                .iter()
                .any(|class| code.starts_with(class)),
        }
    }
}

/// An open database.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    pub(super) kind: Kind,
    /// Reads of some rows by their keys.
    pub(crate) read: Reach,
    /// Reads that look through many rows.
    pub(crate) browse: Reach,
    /// Writes; for SQLite the only writer of this process.
    pub(crate) write: Reach,
}

impl Db {
    /// Opens `sqlite://PATH` or `postgres://…` and brings the schema up to date.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        install_default_drivers();
        if let Some(path) = url.strip_prefix("sqlite://") {
            Self::sqlite(path).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::postgres(url).await
        } else {
            Err(StoreError::Url)
        }
    }

    async fn migrate(pool: &AnyPool) -> Result<(), StoreError> {
        let migrator = sqlx::migrate!();
        let migrated = tokio::time::timeout(MIGRATION_PATIENCE, migrator.run(pool)).await;
        migrated
            .map_err(|_| Error::PoolTimedOut)?
            .map_err(StoreError::Migrate)
    }

    fn new(kind: Kind, read: AnyPool, write: AnyPool) -> Self {
        let silence = Silence::default();
        let read = Reach::new(kind, read, silence.clone());
        Self {
            kind,
            browse: read.browsing(),
            read,
            write: Reach::new(kind, write, silence),
        }
    }

    async fn postgres(url: &str) -> Result<Self, StoreError> {
        let pool = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE)
        };
        let migrating = pool(1).connect(url).await?;
        Self::migrate(&migrating).await?;
        migrating.close().await;
        // Whoever asked has gone by then.
        let limit = format!("SET statement_timeout = {}", BROWSING.as_millis());
        let pool = pool(POSTGRES_CONNECTIONS).after_connect(move |connection, _| {
            let limit = AssertSqlSafe(limit.clone());
            Box::pin(async move { connection.execute(limit).await.map(|_| ()) })
        });
        let pool = pool.connect(url).await?;
        Ok(Self::new(Kind::Postgres, pool.clone(), pool))
    }

    async fn sqlite(path: &str) -> Result<Self, StoreError> {
        let pool = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE)
                // A file does not go away between two uses.
                .test_before_acquire(false)
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
        Self::migrate(&write).await?;
        let read = pool(SQLITE_READERS).connect_lazy(&format!("sqlite://{path}?mode=ro"))?;
        Ok(Self::new(Kind::Sqlite, read, write))
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
