//! Networks as cluster objects: checking a spec, allocating it, removing it; node attachments; MTU.

mod attachment;
mod balancing;
mod mtu;
mod report;
mod spec;
mod subnets;

use std::collections::BTreeSet;

use weft_orchestration::{Allocator, VXLAN_ID_LIST_OPTION};
use weft_wire::swarmkit::{
    Annotations, Driver, IpamOptions, Network, NetworkSpec, Task, TaskState, TaskStatus,
};

pub(crate) use attachment::{AttachError, attach, detach, forget_tasks};
pub(crate) use balancing::{Balancing, ensure_ingress, settle};
pub(crate) use mtu::{interface_mtu, mtu_warnings, reconcile as reconcile_mtu, vxlan_mtu};
pub(crate) use report::{Reports, data_path_address, decode as decode_report, engine_of, to_resource};
pub(crate) use spec::check_name;
pub(crate) use subnets::{subnet_warning, subnet_warnings, subnets_of};

use crate::control::{is_ingress, network_uses};
use crate::error::ControlError;
use crate::store::{Claim, ObjectKind, Transaction, View};
use crate::taken::ViewTaken;

/// The network that swarms publish ports on.
pub(crate) const INGRESS: &str = "ingress";
/// SwarmKit's mark of networks that every node has of its own.
const PREDEFINED_LABEL: &str = "com.docker.swarm.predefined";
const OVERLAY: &str = "overlay";

/// The spec of the ingress network that `init` makes.
pub(crate) fn ingress_spec() -> NetworkSpec {
    NetworkSpec {
        annotations: Some(Annotations { name: INGRESS.to_owned(), ..Default::default() }),
        driver_config: Some(Driver::default()),
        ipam: Some(IpamOptions { driver: Some(Driver::default()), ..Default::default() }),
        ingress: true,
        ..Default::default()
    }
}

/// Adds a network with its subnets and VNIs to the transaction.
pub(crate) fn create(
    view: &View,
    allocator: &mut Allocator,
    transaction: &mut Transaction,
    reports: &Reports,
    id: &str,
    spec: &NetworkSpec,
) -> Result<(), ControlError> {
    spec::check(view, spec)?;
    let mut taken = ViewTaken::beside(view, subnets::of_nodes(view, reports));
    let allocation = allocator.network(id, spec, &taken)?;
    let mut network = Network { id: id.to_owned(), spec: Some(spec.clone()), ..Default::default() };
    allocation.write_to(&mut network);
    mtu::carry(view, reports, &mut network)?;
    transaction.create(network);
    transaction.claim(&Claim::network_name(name_of(spec)), id);
    taken.claim(transaction, allocation.claims, id);
    Ok(())
}

/// Adds the removal of a network to the transaction.
pub(crate) fn remove(
    view: &View,
    transaction: &mut Transaction,
    network: &Network,
) -> Result<(), ControlError> {
    if is_node_local(network) {
        let (id, name) = (network.id.clone(), network_name(network).to_owned());
        return Err(ControlError::PredefinedNetwork { id, name });
    }
    if let Some(service) = view.services().find(|service| network_uses(service, network)) {
        let service = service.id.clone();
        return Err(match is_ingress(network) {
            true => ControlError::IngressInUse(service),
            false => ControlError::NetworkInUseByService { network: network.id.clone(), service },
        });
    }
    if let Some(task) = view.tasks_of_network(&network.id).find(|task| is_active(task)) {
        return Err(ControlError::NetworkInUse { network: network.id.clone(), task: task.id.clone() });
    }
    // Load-balancer addresses of nodes go with it.
    for node in view.nodes() {
        balancing::drop_from_node(transaction, node, &BTreeSet::from([network.id.clone()]));
    }
    // Tasks on their way out may still hold addresses; they end on a VNI that nobody gets soon. A task that is given
    // an address meanwhile is not among these, so the store refuses the removal.
    for (address, _) in view.addresses(&network.id) {
        transaction.release(&Claim::Address { network: network.id.clone(), address });
    }
    transaction.remove(ObjectKind::Network, &network.id, crate::store::version_of(network.meta.as_ref()));
    Ok(())
}

/// Whether every node has it of its own.
fn is_node_local(network: &Network) -> bool {
    let labels = network.spec.as_ref().and_then(|spec| Some(&spec.annotations.as_ref()?.labels));
    labels.is_some_and(|labels| labels.get(PREDEFINED_LABEL).is_some_and(|value| value == "true"))
}

/// Whether a task still needs its addresses: SwarmKit's rule.
fn is_active(task: &Task) -> bool {
    let state = task.status.as_ref().map_or(TaskState::New, TaskStatus::state);
    task.desired_state() <= TaskState::Running && state <= TaskState::Running
}

pub(crate) fn name_of(spec: &NetworkSpec) -> &str {
    spec.annotations.as_ref().map_or("", |annotations| annotations.name.as_str())
}

/// Name of a stored network, for messages.
pub(crate) fn network_name(network: &Network) -> &str {
    network.spec.as_ref().map_or("", name_of)
}

/// Whether containers can be on this network across nodes.
pub(crate) fn is_overlay(network: &Network) -> bool {
    network
        .driver_state
        .as_ref()
        .is_some_and(|driver| driver.name == OVERLAY && driver.options.contains_key(VXLAN_ID_LIST_OPTION))
}
