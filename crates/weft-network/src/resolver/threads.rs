//! The threads of all resolvers: answers from memory never wait for anything else that the helper does.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// More would not be faster: one thread answers more than a host's containers ask.
const ANSWERING_MAX: usize = 4;
/// Sockets in containers' namespaces are opened by threads that enter them.
const OPENING: usize = 2;

/// See the module. The threads end when this is dropped.
#[derive(Debug)]
pub(crate) struct Threads {
    answering: Vec<Handle>,
    /// Where queries to other servers wait for their answers.
    pub(super) forwarding: Handle,
    next: AtomicUsize,
    _running: watch::Sender<()>,
}

impl Threads {
    /// One thread for questions sent on, and one for answers per processor, within a bound.
    pub(crate) fn start() -> io::Result<Self> {
        let (running, ended) = watch::channel(());
        let count = thread::available_parallelism().map_or(1, usize::from).min(ANSWERING_MAX);
        let answering =
            (0..count).map(|_| spawn("dns-answers", &ended)).collect::<io::Result<Vec<Handle>>>()?;
        let forwarding = spawn("dns-forwards", &ended)?;
        Ok(Self { answering, forwarding, next: AtomicUsize::new(0), _running: running })
    }

    /// The thread for the next container.
    pub(super) fn answering(&self) -> Handle {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.answering[next % self.answering.len()].clone()
    }
}

fn spawn(name: &str, ended: &watch::Receiver<()>) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(OPENING).build()?;
    let (handle, mut ended) = (runtime.handle().clone(), ended.clone());
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // An error says that the sender is gone.
        runtime.block_on(async { while ended.changed().await.is_ok() {} });
        runtime.shutdown_background();
    })?;
    Ok(handle)
}
