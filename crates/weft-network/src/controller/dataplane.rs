//! Connections to the kernel, one a namespace.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use weft_kernel::{Kernel, Netns, Report};
use weft_plan::{NamespaceState, Op};

use crate::error::NetworkError;

/// Open connections. Those of sandboxes are opened when first needed and dropped with the sandbox.
#[derive(Debug)]
pub(crate) struct DataPlane {
    host: Kernel,
    open: Mutex<HashMap<PathBuf, Kernel>>,
    /// Namespaces that other programs made: our own files of them, with theirs.
    foreign: Mutex<HashMap<PathBuf, PathBuf>>,
}

impl DataPlane {
    pub(crate) fn new(host: Kernel) -> Self {
        Self { host, open: Mutex::default(), foreign: Mutex::default() }
    }

    pub(crate) fn host(&self) -> &Kernel {
        &self.host
    }

    /// From now on the namespace at `path` is the one that another program keeps at `source`.
    pub(crate) fn note_foreign(&self, path: PathBuf, source: PathBuf) {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).insert(path, source);
    }

    /// The connection to a pinned namespace; makes the namespace if it is not there, unless another program does.
    pub(crate) async fn at(&self, path: &Path) -> Result<Kernel, NetworkError> {
        if let Some(kernel) = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(kernel.clone());
        }
        let wanted = path.to_owned();
        let source = self.foreign.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        let opened = blocking(move || -> Result<Kernel, NetworkError> {
            let netns = match Netns::open(&wanted) {
                Ok(netns) => netns,
                // Nothing there, or a file that a reboot or an interrupted start left without its namespace.
                Err(_) => {
                    Netns::remove(&wanted)?;
                    match source {
                        Some(source) => Netns::open(source)?.pin(&wanted)?,
                        None => Netns::create(&wanted)?,
                    }
                }
            };
            Ok(Kernel::open_blocking(netns)?)
        })
        .await?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), opened.clone());
        Ok(opened)
    }

    /// Takes a pinned namespace down: first what is in it, because the kernel ends namespaces at its leisure.
    pub(crate) async fn remove(&self, path: &Path) -> Result<(), NetworkError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        let path = path.to_owned();
        blocking(move || {
            let kernel = match open {
                Some(kernel) => Some(kernel),
                None => Netns::open(&path).ok().and_then(|netns| Kernel::open_blocking(netns).ok()),
            };
            if let Some(kernel) = kernel {
                let emptied = kernel.reconcile_blocking(&NamespaceState::empty());
                if let Err(error) = emptied {
                    tracing::warn!(path = %path.display(), %error, "namespace not emptied");
                }
            }
            Netns::remove(&path)?;
            Ok(())
        })
        .await
    }

    /// Makes one namespace as wanted.
    pub(crate) async fn reconcile(
        &self,
        what: &str,
        kernel: &Kernel,
        want: &NamespaceState,
    ) -> Result<(), NetworkError> {
        let report: Report = kernel.reconcile(want).await?;
        let apply = |source| NetworkError::Apply { what: what.to_owned(), source: Box::new(source) };
        report.into_result().map(|_| ()).map_err(apply)
    }
}

/// Runs blocking work on the runtime's pool; a panic goes on.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    finished(tokio::task::spawn_blocking(work)).await
}

/// Does blocking work for each item, on as many threads as there are processors; the outcomes are in order.
pub(crate) async fn in_parallel<I: Send + 'static, T: Send + 'static>(
    items: Vec<I>,
    work: impl Fn(I) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (share, mut items) = (items.len().div_ceil(threads), items.into_iter());
    let mut running = Vec::new();
    while items.len() > 0 {
        let (some, work) = (items.by_ref().take(share).collect::<Vec<I>>(), work.clone());
        running.push(tokio::task::spawn_blocking(move || some.into_iter().map(work).collect::<Vec<T>>()));
    }
    let mut outcomes = Vec::new();
    for some in running {
        outcomes.extend(finished(some).await);
    }
    outcomes
}

async fn finished<T>(running: tokio::task::JoinHandle<T>) -> T {
    match running.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only when the runtime goes down before the work began; nobody awaits then.
            Err(_) => std::future::pending().await,
        },
    }
}

/// All words of [`kind`].
pub(crate) const KINDS: [&str; 10] =
    ["link", "address", "route", "rule", "fdb", "neighbour", "sysctl", "nftables", "ipvs", PROGRAM];

/// The word for what belongs to the fast path.
pub(crate) const PROGRAM: &str = "program";

/// The word for an operation's object in the audit's counters.
pub(crate) fn kind(op: &Op) -> &'static str {
    match op {
        Op::CreateLink { .. } | Op::AwaitLink { .. } | Op::ChangeLink { .. } | Op::DeleteLink { .. } => {
            "link"
        }
        Op::AddAddress(_) | Op::DeleteAddress(_) => "address",
        Op::SetRoute(_) | Op::DeleteRoute(_) => "route",
        Op::AddRule(_) | Op::DeleteRule(_) => "rule",
        Op::SetFdb(_) | Op::DeleteFdb(_) => "fdb",
        Op::SetNeighbour(_) | Op::DeleteNeighbour(_) => "neighbour",
        Op::SetSysctl { .. } => "sysctl",
        Op::SetTable(_) | Op::DeleteTable(_) | Op::ChangeElements { .. } => "nftables",
        Op::SetIpvsTimeouts(_)
        | Op::SetIpvsService { .. }
        | Op::DeleteIpvsService(_)
        | Op::SetIpvsDestination { .. }
        | Op::DeleteIpvsDestination { .. } => "ipvs",
    }
}

/// Counts operations by the kind of their object.
pub(crate) fn count(ops: &[Op], into: &mut BTreeMap<&'static str, u64>) {
    for op in ops {
        *into.entry(kind(op)).or_default() += 1;
    }
}
