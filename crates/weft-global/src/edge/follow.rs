//! News of the store and of this host's containers, taken into the outlook and carried on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use weft_kv::{Change, Leased, LeasedKeys, Watch};
use weft_network::LocalSwarmEndpoint;

use super::{Place, Shared};

pub(super) struct Follow {
    shared: Arc<Shared>,
    nodes: Watch,
    documents: Watch,
    local: watch::Receiver<Vec<LocalSwarmEndpoint>>,
    leased: Option<Arc<LeasedKeys>>,
    /// What was last asked to be under the lease.
    wanted: Leased,
    /// Documents that cannot be read: told once.
    unreadable: BTreeSet<String>,
    /// Whether all was seen once: of the hosts, of the documents.
    begun: (bool, bool),
}

impl Follow {
    pub(super) fn new(
        shared: Arc<Shared>,
        nodes: Watch,
        documents: Watch,
        mut local: watch::Receiver<Vec<LocalSwarmEndpoint>>,
        leased: Option<Arc<LeasedKeys>>,
    ) -> Self {
        // What was there before the daemon began is to be told as well.
        local.mark_changed();
        let (unreadable, begun) = (BTreeSet::new(), (false, false));
        Self { shared, nodes, documents, local, leased, wanted: Leased::new(), unreadable, begun }
    }

    pub(super) async fn run(mut self) {
        loop {
            let settle = self.shared.outlook().next_settle();
            let settle = async {
                match settle {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changes = self.nodes.next() => {
                    self.begun.0 = true;
                    self.take_nodes(changes);
                }
                changes = self.documents.next() => {
                    self.begun.1 = true;
                    self.take_documents(changes);
                }
                changed = self.local.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.take_local();
                }
                () = settle => {}
            }
            self.shared.outlook().settle(Instant::now());
            if self.begun == (true, true) {
                self.shared.seen.send_modify(|seen| *seen = Some(seen.map_or(0, |count| count + 1)));
                self.shared.tell_controller().await;
                self.shared.due.notify_one();
            }
        }
    }

    fn take_nodes(&mut self, changes: Vec<Change>) {
        let folder = format!("{}/", self.shared.nodes);
        for change in changes {
            match change {
                Change::Put(entry) => {
                    let Some(name) = entry.key.strip_prefix(&folder) else { continue };
                    match name.parse::<SocketAddr>() {
                        Ok(address) => {
                            tracing::info!(node = name, "a node is in the key-value store");
                            self.shared.outlook().put_node(name, address.ip());
                        }
                        Err(_) => tracing::warn!(key = entry.key, "a key names no node: it is left alone"),
                    }
                }
                Change::Removed(key) => {
                    self.look_after(&key);
                    let Some(name) = key.strip_prefix(&folder) else { continue };
                    tracing::info!(node = name, "a node is no longer in the key-value store");
                    self.shared.outlook().remove_node(name);
                }
            }
        }
    }

    fn take_documents(&mut self, changes: Vec<Change>) {
        let now = Instant::now();
        for change in changes {
            match change {
                Change::Put(entry) => {
                    let taken = self.shared.outlook().put(&entry.key, &entry.value);
                    match taken {
                        Ok(()) => {
                            self.unreadable.remove(&entry.key);
                        }
                        Err(error) if self.unreadable.insert(entry.key.clone()) => {
                            let key = entry.key;
                            tracing::warn!(key, %error, "a document in the key-value store cannot be read: it is left alone");
                        }
                        Err(_) => {}
                    }
                }
                Change::Removed(key) => {
                    self.unreadable.remove(&key);
                    self.look_after(&key);
                    self.shared.outlook().remove(&key, now);
                }
            }
        }
    }

    /// A key of this host should not vanish.
    fn look_after(&self, key: &str) {
        if let Some(leased) = self.leased.as_ref().filter(|_| self.wanted.contains_key(key)) {
            leased.doubt();
        }
    }

    /// This host's endpoints are other ones now.
    fn take_local(&mut self) {
        let endpoints = self.local.borrow_and_update();
        {
            let mut places = self.shared.places();
            for endpoint in endpoints.iter() {
                let place = Place { network: endpoint.network.clone(), pending: None };
                places.insert(endpoint.attachment.clone(), place);
            }
        }
        if let (Some(leased), Some(keys)) = (&self.leased, self.shared.leased(&endpoints)) {
            self.wanted.clone_from(&keys);
            leased.set(keys);
        }
    }
}
