//! The audit of the last wish while the daemon is away.

use std::collections::{BTreeMap, HashMap};

use weft_kernel::{Kernel, Netns};
use weft_plan::{NamespaceRef, NamespaceState};

use crate::controller::count_ops;
use crate::helper::protocol::Repairs;
use crate::watchers::Watchers;

/// What is open, which is only while there is no daemon, and what was done.
#[derive(Debug)]
pub(super) struct AwayAudit {
    open: HashMap<NamespaceRef, Kernel>,
    watchers: Watchers<NamespaceRef>,
    repaired: Repairs,
}

impl AwayAudit {
    /// Goes on from what a helper before repaired.
    pub(super) fn new(repaired: Repairs) -> Self {
        Self { open: HashMap::new(), watchers: Watchers::new(), repaired }
    }

    /// Compares and repairs everything once, and hears from then on what changes.
    pub(super) async fn run(&mut self, wishes: &[(NamespaceRef, NamespaceState)]) {
        self.watchers.follow(wishes.iter().map(|(place, _)| (place.clone(), place.clone())).collect());
        for (place, want) in wishes {
            self.look_at(place, want).await;
        }
    }

    /// A namespace in which something changed.
    pub(super) async fn changed(&mut self) -> NamespaceRef {
        self.watchers.changed().await
    }

    /// Compares and repairs one namespace.
    pub(super) async fn look_at(&mut self, place: &NamespaceRef, want: &NamespaceState) {
        let Some(kernel) = self.kernel(place).await else { return };
        match kernel.reconcile(want).await {
            Ok(report) => {
                let mut done = BTreeMap::new();
                count_ops(&report.done, &mut done);
                for (kind, count) in done {
                    *self.repaired.repairs.entry(kind.to_owned()).or_default() += count;
                }
                self.repaired.failures += report.failed.len() as u64;
                for op in &report.done {
                    tracing::warn!(place = place.0, %op, "repaired while the daemon is away");
                }
                for failure in &report.failed {
                    tracing::warn!(place = place.0, error = %failure, "repair failed");
                }
            }
            Err(error) => tracing::warn!(place = place.0, %error, "audit failed"),
        }
    }

    async fn kernel(&mut self, place: &NamespaceRef) -> Option<Kernel> {
        if let Some(kernel) = self.open.get(place) {
            return Some(kernel.clone());
        }
        // A namespace that is gone is the daemon's business.
        let netns = Netns::resolve(place).inspect_err(|error| tracing::debug!(%error, "not audited")).ok()?;
        let kernel =
            Kernel::open(netns).await.inspect_err(|error| tracing::warn!(%error, "not audited")).ok()?;
        self.open.insert(place.clone(), kernel.clone());
        Some(kernel)
    }

    /// Somebody is there who may be a daemon, and looks after the kernel itself.
    pub(super) fn close(&mut self) {
        *self = Self::new(self.take_repaired());
    }

    /// What was repaired since this was last taken.
    pub(super) fn repaired(&self) -> &Repairs {
        &self.repaired
    }

    /// The same; it is not said again.
    pub(super) fn take_repaired(&mut self) -> Repairs {
        std::mem::take(&mut self.repaired)
    }
}
