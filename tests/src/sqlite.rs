//! The store of a daemon that does not run, changed behind its back.

use std::path::Path;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

/// Runs one statement; how many rows it changed.
///
/// # Panics
/// When the file cannot be opened or the statement fails.
pub async fn execute(path: &Path, sql: &str) -> u64 {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", path.display());
    let changed = async {
        let mut connection = AnyConnection::connect(&url).await?;
        let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(done.rows_affected())
    };
    changed
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"))
}
