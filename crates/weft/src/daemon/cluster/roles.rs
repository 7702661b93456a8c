//! The node's certificate says whether a manager runs here: this follows it while the membership lasts.
//!
//! ```text
//! worker  --certificate of a manager--> Manager::join (again and again until it is let in) --> manager
//! manager --certificate of a worker--> stop, erase the store --> worker
//! manager --its store failed (the disk is full)--> stop, open again (again and again) --> manager
//! ```
//! Invariant: a store is erased only after its manager has stopped, and only when the certificate says worker.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use weft_identity::NodeRole;
use weft_manager::{KeyEncryptionKey, Manager, ManagerConfig, ManagerError};

use super::{Cluster, Membership};

/// Between attempts to become a manager.
const PAUSE: Duration = Duration::from_secs(3);

/// Runs until the membership ends.
pub(super) async fn follow(cluster: Weak<Cluster>, member: Weak<Membership>) {
    let Some(mut changes) = member.upgrade().map(|member| member.identity.changes()) else { return };
    loop {
        let (Some(ours), Some(present)) = (cluster.upgrade(), member.upgrade()) else { return };
        changes.mark_unchanged();
        let done = adjust(&ours, &present).await;
        drop((ours, present));
        if !done {
            // Its end is the membership's end, seen above.
            let _ = tokio::time::timeout(PAUSE, changes.changed()).await;
            continue;
        }
        let ended = async {
            loop {
                tokio::time::sleep(PAUSE).await;
                let has_failed =
                    |present: Arc<Membership>| present.manager().is_some_and(|manager| manager.has_failed());
                if member.upgrade().is_none_or(has_failed) {
                    return;
                }
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = ended => {}
        }
    }
}

/// Whether certificate and manager agree now.
async fn adjust(cluster: &Arc<Cluster>, member: &Arc<Membership>) -> bool {
    let _changing = cluster.changing.lock().await;
    if member.is_over() {
        return true;
    }
    match (member.identity.identity().role, member.manager()) {
        (NodeRole::Manager, None) => promote(cluster, member, KeyEncryptionKey::default()).await,
        (NodeRole::Manager, Some(manager)) if manager.has_failed() => {
            restart(cluster, member, &manager).await
        }
        (NodeRole::Worker, Some(manager)) => demote(cluster, member, &manager).await,
        _ => true,
    }
}

/// Begins anew with the store of a manager that failed. While the disk still takes nothing that is tried again.
async fn restart(cluster: &Cluster, member: &Membership, manager: &Manager) -> bool {
    tracing::error!("the manager's store has failed; it is opened again");
    let kek = manager.kek();
    manager.stop().await;
    // Until it is back requests are told that there is no leader: the one that failed stays for them.
    promote(cluster, member, kek).await
}

async fn promote(cluster: &Cluster, member: &Membership, kek: KeyEncryptionKey) -> bool {
    let config = ManagerConfig { kek, ..cluster.manager_config(&member.addresses) };
    let known = member.known_managers();
    // A store that is there belongs to a member, whatever became of the first attempt to open it.
    let opened = match Manager::open(config.clone(), member.identity.clone()).await {
        Err(ManagerError::NoSwarm(_)) => Manager::join(config, member.identity.clone(), &known).await,
        other => other,
    };
    match opened {
        Ok(manager) => {
            manager.serve(member.identity.clone());
            member.set_manager(Some(manager));
            tracing::info!("this node is a manager now");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "this node cannot act as a manager yet");
            false
        }
    }
}

async fn demote(cluster: &Cluster, member: &Membership, manager: &Manager) -> bool {
    member.set_manager(None);
    manager.stop().await;
    // What seals the private key goes with the store.
    if let Err(error) = member.identity.set_seal(None) {
        tracing::error!(%error, "the private key cannot be kept another way; the store stays until it is");
        return false;
    }
    if let Err(error) = Manager::erase(&cluster.dir.store()) {
        tracing::error!(%error, "the store of the manager that ran here is not erased");
    }
    tracing::info!("this node is no longer a manager");
    true
}

impl Membership {
    /// Managers to ask: those that the agent was told of, or those of the record.
    pub(super) fn known_managers(&self) -> Vec<SocketAddr> {
        let told: Vec<SocketAddr> =
            self.agent.status().borrow().managers.iter().map(|(_, address)| *address).collect();
        if told.is_empty() { self.first_managers.clone() } else { told }
    }
}
