//! Everything a manager knows while it runs: the replicated part and what lives only in memory.

use std::sync::Arc;

use weft_orchestration::NodeEngine;
use weft_wire::swarmkit::Node;

use crate::core::Core;
use crate::dispatcher::Sessions;
use crate::liveness::Liveness;
use crate::logs::LogBroker;
use crate::network::{Reports, engine_of};
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
    /// Output of tasks on its way to who reads it.
    pub(crate) logs: Arc<LogBroker>,
    /// Asks a node's helper whether the node lives.
    pub(crate) liveness: Arc<dyn Liveness>,
}

impl Brain {
    /// Whether a silent node's helper still speaks for it.
    pub(crate) async fn is_away(&self, node: &Node) -> bool {
        let report = self.reports.of(&self.core.view(), &node.id);
        if engine_of(node, report.as_deref()) != Some(NodeEngine::Weft) {
            return false;
        }
        match node.status.as_ref().and_then(|status| status.addr.parse().ok()) {
            Some(address) => self.liveness.answers(address).await,
            None => false,
        }
    }
}
