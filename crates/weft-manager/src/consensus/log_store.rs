//! Raft's log and vote in one redb file, written by one writer that commits in groups.
//!
//! openraft calls `append` from its core loop, so `append` must not wait for the disk: entries go to a tail in
//! memory, where readers find them at once, and to the writer. It takes everything that has queued up,
//! writes it in one transaction with one sync, and only then reports each entry as durable.
//!
//! Invariants: what was reported durable is on disk; jobs are applied in the order they were given; the tail equals
//! the log on disk plus the jobs still queued. A failed write stops the writer: every later job fails, Raft stops.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::{OptionalSend, RaftLogReader};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::StorageError;
use super::disk::Disk;
use super::member::Seat;
use super::state_file::{OpenFile, format_row};
use super::types::RaftTypes;
use super::wire;
use crate::seal::{Place, Sealer};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const ROLE: &str = "log";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const SEAT: &str = "seat";

type LogId = LogIdOf<RaftTypes>;
type Vote = VoteOf<RaftTypes>;
type Entry = EntryOf<RaftTypes>;

enum Job {
    Append(Vec<Entry>, IOFlushed<RaftTypes>),
    Truncate(u64, oneshot::Sender<io::Result<()>>),
    Purge(LogId, oneshot::Sender<io::Result<()>>),
    Vote(Vote, oneshot::Sender<io::Result<()>>),
    /// Raft id and group.
    Seat([u64; 2], oneshot::Sender<io::Result<()>>),
}

/// The log as Raft sees it.
#[derive(Clone)]
pub(super) struct LogStore {
    shared: Arc<Mutex<Tail>>,
    jobs: mpsc::UnboundedSender<Job>,
}

#[derive(Default)]
struct Tail {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    purged: Option<LogId>,
    seat: Option<[u64; 2]>,
}

/// What the writer needs.
struct Writer {
    database: Database,
    path: PathBuf,
    sealer: Arc<Sealer>,
    /// Dropped after the database: who holds the other end sees the file closed.
    _open: OpenFile,
}

impl LogStore {
    /// Opens or makes the file and starts its writer. It ends when the last clone is dropped.
    pub(super) fn open(
        path: &Path,
        disk: &Arc<dyn Disk>,
        sealer: Arc<Sealer>,
        open: OpenFile,
    ) -> Result<Self, StorageError> {
        Self::start(disk.open(path)?, disk, path, sealer, open)
    }

    /// Reads what the database holds and starts its writer.
    fn start(
        database: Database,
        disk: &Arc<dyn Disk>,
        path: &Path,
        sealer: Arc<Sealer>,
        open: OpenFile,
    ) -> Result<Self, StorageError> {
        let writer = Writer { database, path: path.to_path_buf(), sealer, _open: open };
        let tail = writer.read_all()?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let running = writer.run(queue, Arc::clone(disk)).boxed();
        disk.spawn_writer("raft-log", running).map_err(|source| StorageError::Io {
            action: "start the writer of",
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self { shared: Arc::new(Mutex::new(tail)), jobs })
    }

    /// Whether anything was ever written: a fresh file belongs to no swarm.
    pub(super) fn is_empty(&self) -> bool {
        let tail = self.tail();
        tail.entries.is_empty() && tail.vote.is_none() && tail.purged.is_none()
    }

    /// Which member of which group the log belongs to; none in a new file, and in one older than manager join.
    pub(super) fn seat(&self) -> Option<Seat> {
        self.tail().seat.map(|[raft_id, group]| Seat::new(raft_id, group))
    }

    /// Keeps the seat; returns when it is on disk.
    pub(super) async fn save_seat(&self, raft_id: u64, group: u64) -> io::Result<()> {
        let seat = [raft_id, group];
        self.run(|done| Job::Seat(seat, done)).await?;
        self.tail().seat = Some(seat);
        Ok(())
    }

    /// All entries that are not purged, and the last one's id even if it is.
    pub(super) fn everything(&self) -> (Vec<Entry>, Option<LogId>) {
        let tail = self.tail();
        let last = tail.entries.last_key_value().map(|(_, entry)| entry.log_id);
        (tail.entries.values().cloned().collect(), last.or(tail.purged))
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.jobs.send(job(done)).map_err(|_| gone())?;
        wait.await.map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::other("the writer of the raft log has stopped")
}

impl Writer {
    async fn run(self, mut queue: mpsc::UnboundedReceiver<Job>, disk: Arc<dyn Disk>) {
        while let Some(first) = queue.recv().await {
            disk.before_write().await;
            let mut jobs = vec![first];
            jobs.extend(std::iter::from_fn(|| queue.try_recv().ok()));
            let result = self.write(&jobs);
            if let Err(error) = &result {
                tracing::error!(file = %self.path.display(), %error, "cannot write the raft log");
            }
            let failed = result.is_err();
            for job in jobs {
                let result = match &result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::other(error.to_string())),
                };
                match job {
                    Job::Append(_, flushed) => flushed.io_completed(result),
                    Job::Truncate(_, done)
                    | Job::Purge(_, done)
                    | Job::Vote(_, done)
                    | Job::Seat(_, done) => drop(done.send(result)),
                }
            }
            if failed {
                return;
            }
        }
    }

    /// All jobs in one transaction: one sync.
    fn write(&self, jobs: &[Job]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut log = transaction.open_table(LOG)?;
            let mut meta = transaction.open_table(META)?;
            for job in jobs {
                match job {
                    Job::Append(entries, _) => {
                        for entry in entries {
                            let index = entry.log_id.index;
                            let sealed = self.seal(&entry_name(index), &wire::encode_entry(entry));
                            log.insert(index, sealed.as_slice())?;
                        }
                    }
                    Job::Truncate(from, _) => log.retain_in(*from.., |_, _| false)?,
                    Job::Purge(upto, _) => {
                        meta.insert(PURGED, self.seal(PURGED, &wire::encode_log_id(upto)).as_slice())?;
                        log.retain_in(..=upto.index, |_, _| false)?;
                    }
                    Job::Vote(vote, _) => {
                        meta.insert(VOTE, self.seal(VOTE, &wire::encode_vote(vote)).as_slice())?;
                    }
                    Job::Seat(seat, _) => {
                        meta.insert(SEAT, self.seal(SEAT, &wire::encode_seat(*seat)).as_slice())?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn seal(&self, record: &str, plain: &[u8]) -> Vec<u8> {
        self.sealer.seal(Place { file: &self.path, role: ROLE, record }, plain)
    }

    fn read_all(&self) -> Result<Tail, StorageError> {
        let open = |source| StorageError::Open { path: self.path.clone(), source };
        let database = |error: redb::Error| open(error);
        {
            let transaction = self.database.begin_write().map_err(|e| database(e.into()))?;
            transaction.open_table(LOG).map_err(|e| database(e.into()))?;
            transaction.open_table(META).map_err(|e| database(e.into()))?;
            transaction.commit().map_err(|e| database(e.into()))?;
        }
        format_row(&self.database, &self.path)?;
        let transaction = self.database.begin_read().map_err(|e| database(e.into()))?;
        let mut tail = Tail::default();
        let meta = transaction.open_table(META).map_err(|e| database(e.into()))?;
        if let Some(sealed) = meta.get(VOTE).map_err(|e| database(e.into()))? {
            tail.vote = Some(self.read(VOTE, sealed.value(), wire::decode_vote)?);
        }
        if let Some(sealed) = meta.get(PURGED).map_err(|e| database(e.into()))? {
            tail.purged = Some(self.read(PURGED, sealed.value(), wire::decode_log_id)?);
        }
        if let Some(sealed) = meta.get(SEAT).map_err(|e| database(e.into()))? {
            tail.seat = Some(self.read(SEAT, sealed.value(), wire::decode_seat)?);
        }
        let log = transaction.open_table(LOG).map_err(|e| database(e.into()))?;
        for row in log.iter().map_err(|e| database(e.into()))? {
            let (index, sealed) = row.map_err(|e| database(e.into()))?;
            let entry = self.read(&entry_name(index.value()), sealed.value(), wire::decode_entry)?;
            tail.entries.insert(index.value(), entry);
        }
        Ok(tail)
    }

    fn read<T>(
        &self,
        record: &str,
        sealed: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, wire::WireError>,
    ) -> Result<T, StorageError> {
        let place = Place { file: &self.path, role: ROLE, record };
        let plain = self.sealer.open(place, sealed)?;
        Ok(decode(&plain).map_err(|error| place.malformed(error))?)
    }
}

fn entry_name(index: u64) -> String {
    format!("entry {index}")
}

impl RaftLogReader<RaftTypes> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.tail().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.tail().vote)
    }
}

impl RaftLogStorage<RaftTypes> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<RaftTypes>> {
        let tail = self.tail();
        let last = tail.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: last.or(tail.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.run(|done| Job::Vote(vote, done)).await?;
        self.tail().vote = Some(vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<RaftTypes>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.tail().entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
        self.jobs.send(Job::Append(entries, flushed)).map_err(|_| gone())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        self.tail().entries.split_off(&from);
        self.run(|done| Job::Truncate(from, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut tail = self.tail();
            tail.entries = tail.entries.split_off(&(upto.index + 1));
            tail.purged = Some(upto);
        }
        self.run(|done| Job::Purge(upto, done)).await
    }
}

#[cfg(test)]
#[path = "log_store_test.rs"]
mod tests;
