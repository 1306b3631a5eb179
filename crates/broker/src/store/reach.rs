//! A pool that always answers: every piece of work on a connection is bounded, and a database that stays silent
//! is left alone for a moment instead of holding up one caller after the other. Knows no table.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::any::{AnyQueryResult, AnyRow, AnyTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _, Describe, Either, Error, Execute, Executor,
    SqlStr,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::db::Kind;
use super::silence::Silence;

/// Longest a caller waits for the store, for a connection and an answer together: the contract wants
/// `store_unavailable` within two seconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(1500);
/// Longest a look through many rows may take, as long as the database answers other questions.
pub(super) const BROWSING: Duration = Duration::from_secs(10);
/// How long such a look may take before another question is asked, and how long that one may take.
const UNCHECKED: Duration = Duration::from_millis(500);
const CHECK: Duration = Duration::from_secs(1);

pub(super) fn silent() -> Error {
    late("the database did not answer in time")
}

fn slow() -> Error {
    late("it took the database too long")
}

fn late(what: &str) -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

/// Work on a lent connection, bounded.
pub(super) async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, Error>>,
) -> Ended<T> {
    let ended = timeout_at(deadline, work).await;
    ended.map_or(Ended::Silent, Ended::Answered)
}

/// What came of work that had to end.
pub(crate) enum Ended<T> {
    /// It ended.
    Answered(Result<T, Error>),
    /// It took too long, and that says nothing about the database.
    Slow,
    /// The database is silent.
    Silent,
}

/// A pool whose every use is bounded. Statements are run on `&Reach` as on a pool.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pool: AnyPool,
    kind: Kind,
    silence: Silence,
    browses: bool,
}

impl Reach {
    pub(super) fn new(kind: Kind, pool: AnyPool, silence: Silence) -> Self {
        Self {
            pool,
            kind,
            silence,
            browses: false,
        }
    }

    /// The same for reads that look through many rows.
    pub(super) fn browsing(&self) -> Self {
        Self {
            browses: true,
            ..self.clone()
        }
    }

    /// A connection for some statements; all of them together are bounded by [`within`].
    pub(crate) async fn lend(&self) -> Result<Lent, Error> {
        self.silence.check()?;
        let deadline = Instant::now() + PATIENCE;
        match timeout_at(deadline, self.pool.acquire()).await {
            Ok(Ok(connection)) => Ok(Lent {
                connection: Some(connection),
                deadline,
                reach: self.clone(),
            }),
            Ok(Err(Error::PoolTimedOut)) | Err(_) => {
                self.fell_silent();
                Err(silent())
            }
            Ok(Err(error)) => Err(error),
        }
    }

    /// A file does not fall silent; it is slow at most.
    fn fell_silent(&self) {
        if self.kind == Kind::Postgres {
            self.silence.begin();
        }
    }

    async fn bound<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Ended<T> {
        if !self.browses {
            return within(deadline, work).await;
        }
        let mut work = pin!(work);
        let end = Instant::now() + BROWSING;
        while Instant::now() < end {
            if let Ok(answer) = timeout(UNCHECKED, &mut work).await {
                return Ended::Answered(answer);
            }
            tokio::select! {
                biased;
                answer = &mut work => return Ended::Answered(answer),
                alive = self.answers() => if !alive { return Ended::Silent },
            }
        }
        Ended::Slow
    }

    /// Whether the database answers a question that costs nothing.
    async fn answers(&self) -> bool {
        if self.kind == Kind::Sqlite {
            return true;
        }
        let asked = async {
            let mut lent = self.lend().await?;
            let (deadline, connection) = lent.parts()?;
            let ended = within(deadline, connection.ping()).await;
            lent.settle(ended)
        };
        matches!(timeout(CHECK, asked).await, Ok(Ok(())))
    }

    pub(super) async fn close(&self) {
        if timeout(PATIENCE, self.pool.close()).await.is_err() {
            tracing::warn!("the store did not close its connections in time");
        }
    }
}

/// A connection on loan.
#[derive(Debug)]
pub(crate) struct Lent {
    connection: Option<PoolConnection<Any>>,
    deadline: Instant,
    reach: Reach,
}

impl Lent {
    /// When everything done on it must have ended, and the connection.
    pub(crate) fn parts(&mut self) -> Result<(Instant, &mut AnyConnection), Error> {
        let connection = self.connection.as_deref_mut().ok_or(Error::PoolClosed)?;
        Ok((self.deadline, connection))
    }

    /// What came of the work. A connection to a server that did not answer is dropped, not given back: nobody
    /// would ever get an answer on it. So is one to a file after a failure that lies in the file: SQLite may have
    /// rolled the transaction back by itself (disk full), sqlx still counts it as open, and all that is written
    /// afterwards would stand in a transaction that never ends.
    pub(crate) fn settle<T>(mut self, ended: Ended<T>) -> Result<T, Error> {
        let answer = match ended {
            Ended::Answered(answer) => {
                self.reach.silence.end();
                let of_file = |error: &Error| {
                    self.reach.kind == Kind::Sqlite
                        && matches!(error, Error::Database(_))
                        && !self.reach.kind.refused_rows(error)
                };
                if answer.as_ref().err().is_some_and(of_file) {
                    drop(self.connection.take().map(PoolConnection::detach));
                }
                return answer;
            }
            Ended::Slow => Err(slow()),
            Ended::Silent => {
                self.reach.fell_silent();
                Err(silent())
            }
        };
        if self.reach.kind == Kind::Postgres {
            drop(self.connection.take().map(PoolConnection::detach));
        }
        answer
    }
}

impl Drop for Lent {
    /// Back to the pool, which asks the connection first whether it is well. Also that is bounded where it may
    /// never end; a file's connection keeps its place in the pool until its statement has ended.
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            drop(connection.detach());
            return;
        };
        match self.reach.kind {
            Kind::Sqlite => drop(runtime.spawn(connection.return_to_pool())),
            Kind::Postgres => drop(runtime.spawn(timeout(PATIENCE, connection.return_to_pool()))),
        }
    }
}

impl<'p> Executor<'p> for &'_ Reach {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, Error>>
    where
        E: 'q + Execute<'q, Any>,
    {
        let own = self.clone();
        let all = async move {
            let mut lent = own.lend().await?;
            let (deadline, connection) = lent.parts()?;
            let rows = connection.fetch_many(query).try_collect::<Vec<_>>();
            let ended = own.bound(deadline, rows).await;
            let rows = lent.settle(ended)?;
            Ok::<_, Error>(stream::iter(rows.into_iter().map(Ok)))
        };
        stream::once(all).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        E: 'q + Execute<'q, Any>,
    {
        let own = self.clone();
        Box::pin(async move {
            let mut lent = own.lend().await?;
            let (deadline, connection) = lent.parts()?;
            let ended = own.bound(deadline, connection.fetch_optional(query)).await;
            lent.settle(ended)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<<Any as sqlx::Database>::Statement, Error>>
    where
        'p: 'e,
    {
        let own = self.clone();
        Box::pin(async move {
            let mut lent = own.lend().await?;
            let (deadline, connection) = lent.parts()?;
            let ended = own
                .bound(deadline, connection.prepare_with(sql, parameters))
                .await;
            lent.settle(ended)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Any>, Error>>
    where
        'p: 'e,
    {
        let own = self.clone();
        Box::pin(async move {
            let mut lent = own.lend().await?;
            let (deadline, connection) = lent.parts()?;
            let ended = own.bound(deadline, connection.describe(sql)).await;
            lent.settle(ended)
        })
    }
}
