//! Where the store's files lie, and who does the work that waits for them.

use std::io;
use std::path::Path;

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use redb::Database;

use super::StorageError;

/// A disk. The simulation has one of its own, which is slow and fails by plan.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Opens or makes a database that only its owner can read.
    fn open(&self, path: &Path) -> Result<Database, StorageError>;
    /// Runs a writer, which waits for the disk, beside everything else until it ends.
    fn spawn_writer(&self, name: &str, writer: BoxFuture<'static, ()>) -> io::Result<()>;
    /// Runs work that waits for the disk. It is done even if nobody waits for it any more.
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, io::Result<()>>;
    /// What a group of writes waits before it is done: nothing where the device itself takes its time.
    fn before_write(&self) -> BoxFuture<'static, ()>;
}

/// The machine's own file systems.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Files;

impl Disk for Files {
    fn open(&self, path: &Path) -> Result<Database, StorageError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let io = |action| move |source| StorageError::Io { action, path: path.to_path_buf(), source };
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io("open"))?;
        redb::Builder::new()
            .create_file(file)
            .map_err(|source| StorageError::Open { path: path.to_path_buf(), source: source.into() })
    }

    fn spawn_writer(&self, name: &str, writer: BoxFuture<'static, ()>) -> io::Result<()> {
        // A thread of its own: a stalled disk must not hold one that others wait for. The writer waits for a channel
        // only, so its runtime needs neither clock nor sockets.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || runtime.block_on(writer)).map(drop)
    }

    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, io::Result<()>> {
        let task = tokio::task::spawn_blocking(work);
        async move { task.await.map_err(io::Error::other) }.boxed()
    }

    fn before_write(&self) -> BoxFuture<'static, ()> {
        future::ready(()).boxed()
    }
}
