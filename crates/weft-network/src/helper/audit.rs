//! The audit of the last wish while the daemon is away.

use std::collections::HashMap;

use weft_kernel::{Kernel, Netns};
use weft_plan::{NamespaceRef, NamespaceState};

/// Open connections to the kernel; only while there is no daemon.
#[derive(Debug, Default)]
pub(super) struct AwayAudit {
    open: HashMap<NamespaceRef, Kernel>,
}

impl AwayAudit {
    /// Compares and repairs everything once.
    pub(super) async fn run(&mut self, wishes: &[(NamespaceRef, NamespaceState)]) {
        for (place, want) in wishes {
            let Some(kernel) = self.kernel(place).await else { continue };
            match kernel.reconcile(want).await {
                Ok(report) => {
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

    /// The daemon is back.
    pub(super) fn close(&mut self) {
        self.open.clear();
    }
}
