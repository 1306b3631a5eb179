//! Numbers that rise with every change of something many remember.

use sqlx::{Any, Row as _, Transaction};

use super::{Store, StoreError};

/// Keys were revoked, or users' memberships changed.
pub(super) const PRINCIPALS: &str = "principals";

/// Tells everybody who remembers that something changed; committed with the change.
pub(super) async fn rise(tx: &mut Transaction<'_, Any>, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE epochs SET value = value + 1 WHERE name = $1")
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

impl Store {
    /// Rises whenever a key is revoked or a user's memberships change, on whatever node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn principals_epoch(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT value FROM epochs WHERE name = $1")
            .bind(PRINCIPALS)
            .fetch_one(&self.db.read)
            .await?;
        Ok(row.try_get(0)?)
    }
}
