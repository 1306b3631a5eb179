//! Random keys that outlive the process, so that what they signed is still good after a restart.

use chrono::Utc;
use sqlx::Row as _;

use super::calls::unhex;
use super::{Store, StoreError, ms};

/// Length of a secret, in bytes: the block of HMAC-SHA-256's output.
pub const SECRET_BYTES: usize = 32;

impl Store {
    /// The secret of a name; made at the first asking, the same for all who ask later, on every node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn signing_secret(&self, name: &str) -> Result<[u8; SECRET_BYTES], StoreError> {
        let mut fresh = [0; SECRET_BYTES];
        rand::fill(&mut fresh);
        let sql = "INSERT INTO signing_secrets (name, secret, created_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        sqlx::query(sql)
            .bind(name)
            .bind(catalog::Hash(fresh).hex())
            .bind(ms(Utc::now()))
            .execute(&self.db.write)
            .await?;
        // Whoever came first has made it.
        let row = sqlx::query("SELECT secret FROM signing_secrets WHERE name = $1")
            .bind(name)
            .fetch_one(&self.db.write)
            .await?;
        let hex: String = row.try_get(0)?;
        unhex(&hex).ok_or_else(|| StoreError::Corrupt("signing_secrets.secret".to_owned()))
    }
}
