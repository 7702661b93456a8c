//! Everything a manager knows while it runs: the replicated part and what lives only in memory.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_orchestration::NodeEngine;
use weft_wire::swarmkit::Node;

use crate::core::Core;
use crate::dispatcher::Sessions;
use crate::liveness::{Answer, Liveness};
use crate::logs::LogBroker;
use crate::network::{Reports, engine_of};
use crate::network_state::Progress;
use crate::notice::Notices;
use crate::verdict::Verdict;
use crate::witness::Witnesses;

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
    /// What users shall hear of.
    pub(crate) notices: Notices,
    /// What neighbours say of nodes that fell silent.
    pub(crate) witnesses: Arc<Witnesses>,
    /// Asks a node's helper whether the node lives.
    pub(crate) liveness: Arc<dyn Liveness>,
}

impl Brain {
    /// What a silent node's helper says for it; none where nothing but heartbeats speaks for a node.
    pub(crate) async fn probe(&self, node: &Node) -> Option<Answer> {
        let report = self.reports.of(&self.core.view(), &node.id);
        if engine_of(node, report.as_deref()) != Some(NodeEngine::Weft) {
            return None;
        }
        self.liveness.probe(address_of(node)?).await
    }

    /// What neighbours say of a node whose helper does not answer. See [`Witnesses::verdict`].
    pub(crate) async fn verdict(&self, node: &Node, returning: usize, overdue: bool) -> Verdict {
        match self.helper_of(node) {
            Some(helper) => self.witnesses.verdict(&node.id, helper, returning, overdue).await,
            None => Verdict::Dead,
        }
    }

    /// Lets neighbours look after a node.
    pub(crate) fn alert(&self, node: &Node) {
        if let Some(helper) = self.helper_of(node) {
            self.witnesses.alert(&node.id, helper);
        }
    }

    fn helper_of(&self, node: &Node) -> Option<SocketAddr> {
        Some(SocketAddr::new(address_of(node)?, self.core.timing.helper_port?))
    }
}

fn address_of(node: &Node) -> Option<IpAddr> {
    node.status.as_ref()?.addr.parse().ok()
}
