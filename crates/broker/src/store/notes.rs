//! What faces remember of their clients across restarts: small texts by name.

use chrono::{DateTime, Utc};
use sqlx::Row as _;

use super::reach::Reach;
use super::{Store, StoreError, ms};

impl Store {
    /// Writes a note, in the place of an earlier one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_note(&self, name: &str, note: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO client_notes (name, note, written_ms) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET note = excluded.note, written_ms = excluded.written_ms";
        sqlx::query(sql)
            .bind(name)
            .bind(note)
            .bind(ms(Utc::now()))
            .execute(&self.db.write)
            .await?;
        Ok(())
    }

    /// The note of a name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note(&self, name: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT note FROM client_notes WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.db.read)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Removes a note.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_note(&self, name: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM client_notes WHERE name = $1")
            .bind(name)
            .execute(&self.db.write)
            .await?;
        Ok(())
    }
}

/// Removes notes nobody has written since.
pub(super) async fn prune(write: &Reach, before: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM client_notes WHERE written_ms < $1")
        .bind(ms(before))
        .execute(write)
        .await?;
    Ok(())
}
