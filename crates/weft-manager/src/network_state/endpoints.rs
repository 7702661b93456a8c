//! The endpoints of a network, from reports and the attachments that Raft knows.

use std::collections::{BTreeMap, BTreeSet};

use weft_wire::swarmkit::{Task, node_status::State};
use weft_wire::weft_v1::{Endpoint, Member, RemoteEndpoint};

use crate::core::host_address;
use crate::network::{Reports, data_path_address, engine_of};
use crate::store::View;

/// Whether an endpoint is what this task was given: right node, network and addresses.
pub(super) fn is_of_attachment(task: &Task, node_id: &str, endpoint: &Endpoint) -> bool {
    let given = |text: &str| {
        let address = host_address(text);
        address.is_some()
            && task.networks.iter().any(|attachment| {
                attachment.network.as_ref().is_some_and(|network| network.id == endpoint.network_id)
                    && attachment.addresses.iter().any(|own| host_address(own) == address)
            })
    };
    task.node_id == node_id
        && given(&endpoint.address)
        && (endpoint.address6.is_empty() || given(&endpoint.address6))
}

/// The endpoints of a network on all nodes but `own`, by id.
pub(super) fn remote(
    view: &View,
    reports: &Reports,
    network: &str,
    own: &str,
) -> BTreeMap<String, RemoteEndpoint> {
    let nodes: BTreeSet<&str> = view
        .tasks_of_network(network)
        .map(|task| task.node_id.as_str())
        .filter(|node| *node != own)
        .collect();
    let mut endpoints = BTreeMap::new();
    for node_id in nodes {
        let Some(node) = view.node(node_id) else { continue };
        if node.status.as_ref().is_some_and(|status| status.state() == State::Down) {
            continue;
        }
        let Some(report) = reports.of(view, node_id) else { continue };
        for endpoint in report.endpoints.iter().filter(|endpoint| endpoint.network_id == network) {
            let attached = view.task(&endpoint.attachment_id);
            if attached.is_some_and(|task| is_of_attachment(task, node_id, endpoint)) {
                let remote = RemoteEndpoint {
                    endpoint: Some(endpoint.clone()),
                    node_id: node_id.to_owned(),
                    vtep: report.data_path_address.clone(),
                    service_id: attached.map(|task| task.service_id.clone()).unwrap_or_default(),
                };
                endpoints.insert(endpoint.id.clone(), remote);
            }
        }
    }
    endpoints
}

/// All nodes of the swarm.
pub(super) fn members(view: &View, reports: &Reports) -> Vec<Member> {
    let member = |node: &std::sync::Arc<weft_wire::swarmkit::Node>| {
        let report = reports.of(view, &node.id);
        let address = data_path_address(node, report.as_deref());
        Member {
            node_id: node.id.clone(),
            data_path_address: address.map(|address| address.to_string()).unwrap_or_default(),
            is_weft: engine_of(node, report.as_deref()) == Some(weft_orchestration::NodeEngine::Weft),
            gossip_name: report.map(|report| report.gossip_name.clone()).unwrap_or_default(),
            state: node.status.as_ref().map_or(0, |status| status.state),
        }
    };
    view.nodes().map(member).collect()
}
