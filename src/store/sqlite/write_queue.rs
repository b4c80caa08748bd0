//! Group commit: writes of one statement that wait for the writing connection are committed in one transaction.
//!
//! A commit with a full sync costs far more than a statement. At a cold start many tenants store a status, a ticket and
//! a company name each, at about the same time. No timer is involved: a group is what has queued up while the
//! connection was in use, and while the statements of the group were executed.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sqlx::{Execute, SqlStr, Sqlite, query::Query, sqlite::SqliteArguments};
use tokio::sync::oneshot;

use super::writer::Writer;
use crate::ports::StoreError;

/// The most writes that are committed together. More would make the first one wait longer and save little.
const GROUP_LIMIT: usize = 64;

/// The result of one write: the number of changed rows.
type WriteResult = Result<u64, StoreError>;

/// The writes that wait for the writing connection, in order. The number of waiting callers bounds it.
#[derive(Default)]
pub(super) struct WriteQueue(Mutex<VecDeque<QueuedWrite>>);

struct QueuedWrite {
    statement: SqlStr,
    arguments: SqliteArguments,
    /// Whether it must not be committed with others, because a statement of its group failed.
    alone: bool,
    /// Closed when the caller does not wait any more.
    done: oneshot::Sender<WriteResult>,
}

impl WriteQueue {
    /// Adds a write. If its group is interrupted it may be executed twice, so doing that must change nothing.
    pub(super) fn push(
        &self,
        mut query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<oneshot::Receiver<WriteResult>, StoreError> {
        let arguments = <_ as Execute<'_, Sqlite>>::take_arguments(&mut query)
            .map_err(|_| StoreError::Corrupt("a value cannot be written".to_owned()))?
            .unwrap_or_default();
        let statement = <_ as Execute<'_, Sqlite>>::sql(query);
        let (done, receiver) = oneshot::channel();
        self.lock().push_back(QueuedWrite { statement, arguments, alone: false, done });
        Ok(receiver)
    }

    /// Commits one group of the waiting writes, and reports the results to their callers. If a statement fails, nothing
    /// of the group is stored, and its writes return to the queue, to be committed one by one.
    ///
    /// # Errors
    /// If no transaction can begin. Then no write was taken from the queue.
    pub(super) async fn commit_group(&self, writer: &mut Writer<'_>) -> Result<(), StoreError> {
        let mut transaction = writer.begin().await?;
        let mut group = Group { queue: self, writes: Vec::new() };
        let mut changed = Vec::new();
        while let Some((statement, arguments)) = group.take_next() {
            let query = sqlx::query_with::<Sqlite, _>(statement, arguments);
            match query.execute(&mut *transaction).await {
                Ok(done) => changed.push(Ok(done.rows_affected())),
                Err(error) => {
                    group.fail(&error.into());
                    return Ok(());
                }
            }
        }
        if let Err(error) = transaction.commit().await {
            changed.fill_with(|| Err(error.clone()));
        }
        group.finish(changed);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<QueuedWrite>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writes of the current transaction. When this is dropped, the writes without a result return to the queue: the
/// caller whose future runs the group may stop waiting at any time, and the other callers do not.
struct Group<'a> {
    queue: &'a WriteQueue,
    writes: Vec<QueuedWrite>,
}

impl Group<'_> {
    /// Takes the next write from the queue. Returns its statement, or `None` if the group is complete.
    fn take_next(&mut self) -> Option<(SqlStr, SqliteArguments)> {
        let is_alone = self.writes.last().is_some_and(|last| last.alone);
        if is_alone || self.writes.len() >= GROUP_LIMIT {
            return None;
        }
        let mut queue = self.queue.lock();
        // A write without a waiting caller was not acknowledged, so it is left out.
        while queue.front().is_some_and(|write| write.done.is_closed()) {
            queue.pop_front();
        }
        if !self.writes.is_empty() && queue.front().is_some_and(|write| write.alone) {
            return None;
        }
        let write = queue.pop_front()?;
        drop(queue);
        let taken = (write.statement.clone(), write.arguments.clone());
        self.writes.push(write);
        Some(taken)
    }

    /// Reports a failed statement if it was the only one. Otherwise its group is committed one by one.
    fn fail(mut self, error: &StoreError) {
        if self.writes.len() == 1 {
            self.finish(vec![Err(error.clone())]);
        } else {
            for write in &mut self.writes {
                write.alone = true;
            }
        }
    }

    /// Reports the results, which are in the order of the writes.
    fn finish(mut self, results: Vec<WriteResult>) {
        for (write, result) in self.writes.drain(..).zip(results) {
            // A caller that does not wait any more does not need the result.
            let _ = write.done.send(result);
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        let mut queue = self.queue.lock();
        for write in self.writes.drain(..).rev() {
            queue.push_front(write);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{future::join_all, poll};

    use super::*;
    use crate::store::sqlite::SqliteFile;

    const COUNT: &str = "UPDATE write_probe SET count = count + 1 WHERE only_row = 1";
    const EXISTS: &str = "INSERT INTO write_probe (only_row, count) VALUES (1, 0)";

    async fn open() -> (tempfile::TempDir, SqliteFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteFile::open(&folder.path().join("gateway.db")).await.unwrap();
        (folder, file)
    }

    async fn counted(file: &SqliteFile) -> i64 {
        let count = sqlx::query_scalar("SELECT count FROM write_probe WHERE only_row = 1");
        count.fetch_one(file.readers().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn writes_that_wait_together_are_committed_together() {
        let (_folder, file) = open().await;
        let before = counted(&file).await;
        let busy = file.writer().await.unwrap();
        let mut writes: Vec<_> =
            (0..5).map(|_| Box::pin(file.execute(sqlx::query(COUNT)))).collect();
        for write in &mut writes {
            assert!(poll!(write).is_pending());
        }
        drop(busy);
        let mut others = writes.split_off(1);
        assert_eq!(writes.remove(0).await.unwrap(), 1);
        assert_eq!(counted(&file).await, before + 5, "the first caller commits all writes");
        for other in &mut others {
            assert_eq!(other.await.unwrap(), 1);
        }
        assert_eq!(counted(&file).await, before + 5, "no write is executed twice");
    }

    #[tokio::test]
    async fn a_failed_statement_fails_only_its_own_caller() {
        let (_folder, file) = open().await;
        let before = counted(&file).await;
        let busy = file.writer().await.unwrap();
        let writes = [COUNT, EXISTS, COUNT].map(|statement| file.execute(sqlx::query(statement)));
        let mut all = Box::pin(join_all(writes));
        assert!(poll!(&mut all).is_pending());
        drop(busy);
        let results = all.await;
        assert!(
            matches!(results[..], [Ok(1), Err(StoreError::AlreadyExists), Ok(1)]),
            "{results:?}"
        );
        assert_eq!(counted(&file).await, before + 2);
    }

    #[tokio::test]
    async fn a_dropped_caller_takes_no_other_write_with_it() {
        let (_folder, file) = open().await;
        let before = counted(&file).await;
        let busy = file.writer().await.unwrap();
        let mut dropped = Box::pin(file.execute(sqlx::query(COUNT)));
        let mut other = Box::pin(file.execute(sqlx::query(COUNT)));
        assert!(poll!(&mut dropped).is_pending() && poll!(&mut other).is_pending());
        drop(busy);
        assert!(poll!(&mut dropped).is_pending(), "it has the connection");
        drop(dropped);
        assert_eq!(other.await.unwrap(), 1);
        assert_eq!(counted(&file).await, before + 1, "a dropped write is not stored");
    }
}
