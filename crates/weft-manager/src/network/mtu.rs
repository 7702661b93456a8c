//! The one MTU of each network: chosen from what nodes report, carried in the network's driver state.

use weft_orchestration::{
    MtuChoice, NodeMtu, carry_mtu, choose_mtu, is_encrypted as is_encrypted_by, mtu_option, too_small,
};
use weft_types::{Mtu, Underlay};
use weft_wire::swarmkit::Network;

use super::report::{Reports, data_path_address, engine_of};
use super::{is_overlay, network_name};
use crate::core::Core;
use crate::error::ControlError;
use crate::store::{Transaction, View};

/// Writes the choice into a network that is being made.
pub(super) fn carry(view: &View, reports: &Reports, network: &mut Network) -> Result<(), ControlError> {
    let option = wanted(network)?;
    if let Some(driver_state) = &mut network.driver_state {
        carry_mtu(driver_state, choose_mtu(option, &nodes(view, reports)), option);
    }
    Ok(())
}

/// Writes the choice into all networks where it differs from what they carry. Run after nodes report, join or go.
pub(crate) async fn reconcile(core: &Core, reports: &Reports) -> Result<(), ControlError> {
    core.change(|view, transaction| {
        let nodes = nodes(view, reports);
        for network in view.networks().filter(|network| is_overlay(network)) {
            update(network, &nodes, transaction);
        }
        Ok(())
    })
    .await
}

fn update(network: &Network, nodes: &[NodeMtu], transaction: &mut Transaction) {
    // What was accepted at creation still reads; if not, the network keeps what it has.
    let Ok(option) = wanted(network) else { return };
    let Some(before) = &network.driver_state else { return };
    let choice = choose_mtu(option, nodes);
    let mut after = before.clone();
    carry_mtu(&mut after, choice, option);
    if after == *before {
        return;
    }
    tracing::info!(
        network = network.id,
        name = network_name(network),
        data_path_mtu = %choice.data_path,
        "MTU of a network follows its nodes"
    );
    transaction.update(Network { driver_state: Some(after), ..network.clone() });
}

/// MTU of the interfaces in containers.
pub(crate) fn interface_mtu(view: &View, reports: &Reports, network: &Network) -> Mtu {
    let choice = choice(network, &nodes(view, reports));
    if is_encrypted(network) { choice.encrypted_interface() } else { choice.interface() }
}

/// What nodes are told: the MTU that interfaces would have without encryption. They know what theirs takes.
pub(crate) fn vxlan_mtu(view: &View, reports: &Reports, network: &Network) -> Mtu {
    choice(network, &nodes(view, reports)).interface()
}

fn is_encrypted(network: &Network) -> bool {
    network.driver_state.as_ref().is_some_and(is_encrypted_by)
}

/// What users should know: nodes whose data path cannot carry full packets of this network.
pub(crate) fn mtu_warnings(view: &View, reports: &Reports, network: &Network) -> Vec<String> {
    if !is_overlay(network) {
        return Vec::new();
    }
    let nodes = nodes(view, reports);
    let choice = choice(network, &nodes);
    too_small(choice, &nodes)
        .map(|node| {
            format!(
                "network {} uses a data-path MTU of {}, but the data path of node {} carries only {}: large packets \
                 to it are lost",
                network_name(network),
                choice.data_path,
                node.node,
                node.data_path_mtu.unwrap_or(Mtu::MIN),
            )
        })
        .collect()
}

fn choice(network: &Network, nodes: &[NodeMtu]) -> MtuChoice {
    choose_mtu(wanted(network).unwrap_or_default(), nodes)
}

/// What the user asked for at creation.
fn wanted(network: &Network) -> Result<Option<Mtu>, ControlError> {
    let options =
        network.spec.as_ref().and_then(|spec| spec.driver_config.as_ref()).map(|driver| &driver.options);
    Ok(options.map(mtu_option).transpose()?.flatten())
}

/// What is known of all nodes' data paths. Nodes that have not said what they are do not count yet.
fn nodes(view: &View, reports: &Reports) -> Vec<NodeMtu> {
    let known = view.nodes().filter_map(|node| {
        let report = reports.of(view, &node.id);
        let engine = engine_of(node, report.as_deref())?;
        let address = data_path_address(node, report.as_deref());
        Some(NodeMtu {
            node: node.id.clone(),
            engine,
            data_path_mtu: report.and_then(|report| Mtu::try_from(report.data_path_mtu).ok()),
            underlay: address.map_or(Underlay::V4, Underlay::of),
        })
    });
    known.collect()
}
