//! Subnets that nodes use outside of the swarm: automatic networks step over them, others are warned of.

use ipnet::IpNet;
use weft_orchestration::subnet_clash;
use weft_wire::swarmkit::Network;
use weft_wire::weft_v1::ReportRequest;

use super::network_name;
use super::report::Reports;
use crate::store::View;

/// Those of all nodes.
pub(super) fn of_nodes(view: &View, reports: &Reports) -> Vec<IpNet> {
    view.nodes()
        .filter_map(|node| reports.of(view, &node.id))
        .flat_map(|report| subnets_of(&report))
        .collect()
}

/// [`subnet_warning`] for all nodes.
pub(crate) fn subnet_warnings(view: &View, reports: &Reports, network: &Network) -> Vec<String> {
    let warning = |node: &str| subnet_warning(network, node, &subnets_of(&*reports.of(view, node)?));
    view.nodes().filter_map(|node| warning(&node.id)).collect()
}

/// Those in a node's report. A text that is no subnet counts as none.
pub(crate) fn subnets_of(report: &ReportRequest) -> Vec<IpNet> {
    report.node_subnets.iter().filter_map(|text| text.parse().ok()).collect()
}

/// What users should know: that containers of this network do not reach all hosts that the node does.
pub(crate) fn subnet_warning(network: &Network, node: &str, of_node: &[IpNet]) -> Option<String> {
    let (subnet, other) = subnet_clash(network, of_node)?;
    Some(format!(
        "subnet {subnet} of network {} overlaps {other}, which node {node} uses outside of the swarm: containers on \
         it do not reach those hosts",
        network_name(network),
    ))
}
