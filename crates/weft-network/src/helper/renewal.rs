//! The lease of this host's keys in a key-value store, kept while no daemon does: a host is as alive as its helper.

use tokio::task::JoinHandle;
use weft_kv::keep_alive;

use crate::helper::protocol::LeaseWish;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    task: Option<JoinHandle<()>>,
}

impl Renewal {
    /// The daemon is away.
    pub(super) fn begin(&mut self, wish: Option<&LeaseWish>) {
        self.end();
        let Some(wish) = wish else { return };
        match wish.store.open() {
            Ok(store) => {
                tracing::info!(store = store.name(), "the lease in the key-value store is kept");
                self.task = Some(tokio::spawn(keep_alive(store, wish.lease.clone(), wish.heartbeat)));
            }
            Err(error) => tracing::warn!(%error, "the lease in the key-value store is not kept"),
        }
    }

    /// The daemon is here.
    pub(super) fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.end();
    }
}
