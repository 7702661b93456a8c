//! Comparing the kernel with the desired state from time to time, and putting back what differs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};

use weft_plan::{NamespaceState, Op};

use crate::controller::Controller;
use crate::controller::connect::Look;
use crate::controller::dataplane::{KINDS, count};
use crate::error::NetworkError;
use crate::helper::protocol::Repairs;
use crate::plans;
use crate::sandbox::Sandbox;

/// What the audit found since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditCounters {
    /// Audits done.
    pub audits: u64,
    /// Namespaces looked at because the kernel told of a change.
    pub looks: u64,
    /// Objects put back or taken away, by kind: `link`, `address`, `route`, `rule`, `fdb`, `neighbour`, `sysctl`,
    /// `nftables`, `program` for the fast path's and those at sockets.
    pub repairs: BTreeMap<&'static str, u64>,
    /// Operations that the kernel refused.
    pub failures: u64,
    /// Entries of gossip that do not count at present, because their sender may not say what they say.
    pub gossip_refused: u64,
}

impl Controller {
    /// What the audit found.
    pub fn audit_counters(&self) -> AuditCounters {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        counters.gossip_refused = self.gossip_refused();
        counters
    }

    /// Compares and repairs now. Says how many operations that took.
    pub async fn audit(&self) -> Result<usize, NetworkError> {
        let _turn = self.turn.lock().await;
        let _settled = self.settled().await;
        self.refresh_data_path().await;
        let state = self.state.load_full();
        let (mut repaired, mut failed) = (0, 0);
        for (what, want) in self.desired() {
            let kernel = match &what {
                Place::Host => self.dataplane.host().clone(),
                Place::Pinned(path) => self.dataplane.at(path).await?,
            };
            let report = kernel.reconcile(&want).await?;
            repaired += report.done.len();
            failed += report.failed.len();
            self.note(&what, &report.done, report.failed.len());
            for failure in &report.failed {
                tracing::warn!(place = %what, error = %failure, source = ?std::error::Error::source(failure), "repair failed");
            }
        }
        self.follow_mesh(self.mesh_plan(&state).as_ref()).await;
        repaired += self.follow_fast_path(&state).await;
        match self.follow_connect(&state, Look::AtTheKernel).await {
            Ok(programs) => repaired += programs,
            Err(error) => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "programs at sockets");
                failed += 1;
            }
        }
        self.follow_profile().await;
        self.watch_firewalls().await;
        for overlay in state.networks().filter(|n| n.overlay().is_some() && !self.is_used(&n.id)) {
            let path = self.around.paths.overlay_netns(&overlay.id);
            if path.exists() {
                self.dataplane.remove(&path).await?;
            }
        }
        if failed == 0 {
            self.whole.send_modify(|audits| *audits += 1);
        }
        Ok(repaired)
    }

    /// What the helper did while this daemon was away counts, too.
    pub(super) fn note_away(&self, repaired: &Repairs) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, count) in &repaired.repairs {
            if let Some(kind) = KINDS.iter().find(|kind| *kind == name) {
                *counters.repairs.entry(kind).or_default() += count;
            }
        }
        counters.failures += repaired.failures;
    }

    pub(super) fn note(&self, place: &Place, done: &[Op], failed: usize) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        count(done, &mut counters.repairs);
        counters.failures += failed as u64;
        drop(counters);
        for op in done {
            tracing::warn!(%place, kind = super::dataplane::kind(op), %op, "repaired");
        }
    }

    fn is_used(&self, network: &weft_types::NetworkId) -> bool {
        super::swarm::used(&self.state.load()).contains(network)
    }

    /// Every namespace with what it shall hold, in the order in which they must be made: networks before containers.
    pub(super) fn desired(&self) -> Vec<(Place, NamespaceState)> {
        let state = self.state.load_full();
        self.desired_with(|sandbox| self.sandbox_state(&state, sandbox))
    }

    /// The same with what `of_sandbox` gives for containers.
    pub(super) fn desired_with(
        &self,
        of_sandbox: impl Fn(&Sandbox) -> NamespaceState,
    ) -> Vec<(Place, NamespaceState)> {
        let (state, peers, paths) = (self.state.load_full(), self.peers.load_full(), &self.around.paths);
        let mut all = Vec::new();
        for network in state.networks() {
            if let Some(plan) = plans::overlay(&state, &self.around, network, &peers) {
                all.push((Place::Pinned(paths.overlay_netns(&network.id)), plan.plan()));
            }
        }
        all.push((Place::Host, self.host_plan(&state, self.mesh_plan(&state))));
        for sandbox in state.sandboxes.values().filter(|sandbox| sandbox.has_namespace()) {
            all.push((Place::Pinned(paths.sandbox_netns(&sandbox.id)), of_sandbox(sandbox)));
        }
        all
    }

    pub(super) fn start_audit(self: &Arc<Self>) {
        let (controller, interval) = (Arc::downgrade(self), self.config.audit_interval);
        let mut stopped = self.stopped.subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    () = tokio::time::sleep(interval) => {}
                }
                let Some(controller) = Weak::upgrade(&controller) else { return };
                controller.drop_vanished().await;
                match controller.audit().await {
                    Ok(_) => {
                        controller.counters.lock().unwrap_or_else(PoisonError::into_inner).audits += 1;
                    }
                    Err(error) => tracing::warn!(%error, "audit failed"),
                }
            }
        });
    }
}

/// A namespace of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Host,
    Pinned(std::path::PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Pinned(path) => path.display().fmt(f),
        }
    }
}
