//! Everything a manager knows while it runs: the replicated part and what lives only in memory.

use std::sync::Arc;

use crate::core::Core;
use crate::dispatcher::Sessions;
use crate::liveness::Liveness;
use crate::network::Reports;
use crate::network_state::Progress;

/// Shared by services, control and reconcilers.
pub(crate) struct Brain {
    pub(crate) core: Arc<Core>,
    /// Which node has which session.
    pub(crate) sessions: Sessions,
    /// Decoded reports of nodes.
    pub(crate) reports: Reports,
    /// What nodes have programmed.
    pub(crate) progress: Progress,
    /// Asks a node's helper whether the node lives.
    pub(crate) liveness: Arc<dyn Liveness>,
}
