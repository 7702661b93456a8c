//! The replicated objects of the swarm: the cluster, nodes, networks, services, tasks, secrets, configs.
//!
//! One [`Transaction`] is one Raft command: many changes with preconditions (object versions) and claims
//! (addresses, VNIs, subnets, names). Applying it only compares versions and looks for claims already taken:
//! whoever proposes computes everything else from a [`View`], and computes again when refused.
//! `meta.version.index` of an object is the Raft index of its last change.

mod apply;
mod claim;
mod object;
mod ordered;
mod snapshot;
mod transaction;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::broadcast;

pub use claim::Claim;
pub(crate) use object::version_of;
pub use object::{Object, ObjectKind};
pub use transaction::{Refusal, Transaction};
pub use view::View;
pub(crate) use view::networks_of;

use crate::consensus::Machine;

/// Commits a slow watcher may lag behind before it has to start over from a view.
const WATCH_BACKLOG: usize = 4096;

/// One object before and after a commit.
#[derive(Debug, Clone)]
pub struct Change {
    /// None: created.
    pub before: Option<Object>,
    /// None: removed.
    pub after: Option<Object>,
}

/// What one applied transaction changed.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Raft index.
    pub index: u64,
    /// In the order of the transaction.
    pub changes: Vec<Change>,
}

/// The current state with its watchers.
pub(crate) struct Store {
    view: ArcSwap<View>,
    /// Applied and not yet visible: one batch of the log becomes visible at once.
    pending: std::sync::Mutex<Pending>,
    commits: broadcast::Sender<Arc<Commit>>,
}

#[derive(Default)]
struct Pending {
    view: Option<View>,
    commits: Vec<Arc<Commit>>,
}

impl Store {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            view: ArcSwap::from_pointee(View::default()),
            pending: std::sync::Mutex::default(),
            commits: broadcast::channel(WATCH_BACKLOG).0,
        })
    }

    /// The state as of the last visible commit.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Commits from now on. Take a view after subscribing to miss nothing.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<Commit>> {
        self.commits.subscribe()
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Machine for Store {
    fn apply(&self, index: u64, command: &[u8]) -> Option<Refusal> {
        let mut pending = self.pending();
        let view = pending.view.get_or_insert_with(|| View::clone(&self.view.load()));
        match apply::apply(view, index, command) {
            Ok(changes) => {
                pending.commits.push(Arc::new(Commit { index, changes }));
                None
            }
            Err(refusal) => Some(refusal),
        }
    }

    fn flush(&self) {
        let mut pending = self.pending();
        if let Some(view) = pending.view.take() {
            self.view.store(Arc::new(view));
        }
        for commit in pending.commits.drain(..) {
            // No watcher is no error.
            let _ = self.commits.send(commit);
        }
    }

    fn image(&self) -> Arc<View> {
        self.view()
    }

    fn restore(&self, image: Arc<View>) {
        *self.pending() = Pending::default();
        let before = self.view.swap(Arc::clone(&image));
        // Who watches sees the leap of a manager that was far behind as one commit.
        let changes = difference(&before, &image);
        if !changes.is_empty() {
            let _ = self.commits.send(Arc::new(Commit { index: image.index(), changes }));
        }
    }
}

/// What leads from one state to another.
fn difference(before: &View, after: &View) -> Vec<Change> {
    let gone = before.objects().filter(|old| after.object(old.kind(), old.id()).is_none());
    let mut changes: Vec<Change> = gone.map(|old| Change { before: Some(old), after: None }).collect();
    for new in after.objects() {
        let old = before.object(new.kind(), new.id());
        if old.as_ref().map(Object::version) != Some(new.version()) {
            changes.push(Change { before: old, after: Some(new) });
        }
    }
    changes
}
