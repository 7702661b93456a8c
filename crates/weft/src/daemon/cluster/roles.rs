//! The node's certificate says whether a manager runs here: this follows it while the membership lasts.
//!
//! ```text
//! worker  --certificate of a manager--> Manager::join (again and again until it is let in) --> manager
//! manager --certificate of a worker--> stop, erase the store --> worker
//! ```
//! Invariant: a store is erased only after its manager has stopped, and only when the certificate says worker.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use weft_identity::NodeRole;
use weft_manager::{Manager, ManagerError};

use super::{Cluster, Membership};

/// Between attempts to become a manager.
const PAUSE: Duration = Duration::from_secs(3);

/// Runs until the membership ends.
pub(super) async fn follow(cluster: Weak<Cluster>, member: Weak<Membership>) {
    let Some(mut changes) = member.upgrade().map(|member| member.identity.changes()) else { return };
    loop {
        let (Some(cluster), Some(member)) = (cluster.upgrade(), member.upgrade()) else { return };
        changes.mark_unchanged();
        let done = adjust(&cluster, &member).await;
        drop((cluster, member));
        if done {
            if changes.changed().await.is_err() {
                return;
            }
        } else {
            // Its end is the membership's end, seen above.
            let _ = tokio::time::timeout(PAUSE, changes.changed()).await;
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
        (NodeRole::Manager, None) => promote(cluster, member).await,
        (NodeRole::Worker, Some(manager)) => demote(cluster, member, &manager).await,
        _ => true,
    }
}

async fn promote(cluster: &Cluster, member: &Membership) -> bool {
    let config = cluster.manager_config(&member.addresses);
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
