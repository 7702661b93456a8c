//! Why no node fits, as text.

use std::collections::BTreeMap;

use super::demand::Misfit;

/// How many nodes lack what.
#[derive(Debug, Default)]
pub(super) struct Explanation {
    nodes: BTreeMap<Misfit, usize>,
}

impl Explanation {
    pub(super) fn add(&mut self, misfit: Misfit) {
        *self.nodes.entry(misfit).or_default() += 1;
    }

    /// The most frequent reason first; empty if there was no node to ask.
    pub(super) fn to_text(&self) -> String {
        let mut reasons: Vec<(Misfit, usize)> =
            self.nodes.iter().map(|(misfit, count)| (*misfit, *count)).collect();
        // Stable: equally frequent ones stay in the order in which nodes are asked.
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let texts: Vec<String> = reasons.into_iter().map(|(misfit, count)| describe(misfit, count)).collect();
        texts.join("; ")
    }

    /// For a task that any node would do for.
    pub(super) fn no_suitable_node(&self) -> String {
        match self.to_text() {
            text if text.is_empty() => "no suitable node".to_owned(),
            text => format!("no suitable node ({text})"),
        }
    }
}

fn describe(misfit: Misfit, count: usize) -> String {
    let nodes = if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
    match misfit {
        Misfit::NotAvailable => format!("{nodes} not available for new tasks"),
        Misfit::Resources => format!("insufficient resources on {nodes}"),
        Misfit::Plugins => format!("missing plugin on {nodes}"),
        Misfit::Constraints => format!("scheduling constraints not satisfied on {nodes}"),
        Misfit::Platform => format!("unsupported platform on {nodes}"),
        Misfit::HostPorts => format!("host-mode port already in use on {nodes}"),
        Misfit::MaxReplicas => "max replicas per node limit exceed".to_owned(),
        Misfit::ClusterVolumes => format!("cannot fulfill requested CSI volume mounts on {nodes}"),
    }
}
