//! A connection to the kernel for one namespace.

use weft_plan::{NamespaceState, Observed, Op};

use crate::{KernelError, Netns, Report};

/// Reads and changes one namespace. Cheap to clone; needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct Kernel {
    netns: Netns,
}

impl Kernel {
    /// Connects. The netlink socket is made inside the namespace and stays there, whatever happens to its file.
    pub async fn open(netns: Netns) -> Result<Self, KernelError> {
        todo!("{netns:?}")
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Reads what is there. `interest` says which settings to read.
    pub async fn observe(&self, interest: &NamespaceState) -> Result<Observed, KernelError> {
        todo!("{interest:?}")
    }

    /// Carries out operations in order. Goes on after a failure: what does not depend on it still stands.
    pub async fn apply(&self, ops: &[Op]) -> Report {
        todo!("{ops:?}")
    }

    /// Observe, diff, apply.
    pub async fn reconcile(&self, desired: &NamespaceState) -> Result<Report, KernelError> {
        let observed = self.observe(desired).await?;
        Ok(self.apply(&weft_plan::diff(&observed, desired)).await)
    }
}
