//! The services of a network, as nodes are told of them.
//!
//! A service is on a network while it has an address or a task there: also one without running tasks, so that its name
//! is known to be the swarm's.

use std::collections::{BTreeMap, BTreeSet};

use weft_wire::swarmkit::port_config::PublishMode;
use weft_wire::swarmkit::{Network, PortConfig, Service, TaskState};
use weft_wire::weft_v1::{ServicePort, ServiceView};

use crate::control::is_ingress;
use crate::core::host_address;
use crate::store::{View, networks_of};

/// Set by `docker stack deploy`.
const STACK_LABEL: &str = "com.docker.stack.namespace";
/// Ours: `snat` asks that tasks see the entry node's address instead of the client's.
const SOURCE_LABEL: &str = "weft.ingress.source";

/// The services of a network by id.
pub(super) fn services(view: &View, network: &Network) -> BTreeMap<String, ServiceView> {
    let of_tasks = view.tasks_of_network(&network.id).map(|task| task.service_id.as_str());
    let holders = view.addresses(&network.id).map(|(_, holder)| holder);
    let ids: BTreeSet<&str> = of_tasks.chain(holders).filter(|id| !id.is_empty()).collect();
    let found = ids.into_iter().filter_map(|id| view.service(id));
    found.map(|service| (service.id.clone(), service_view(view, network, service))).collect()
}

/// The networks that a service's change may concern.
pub(super) fn networks_of_service<'a>(
    view: &'a View,
    service: &'a Service,
) -> impl Iterator<Item = String> + 'a {
    let addresses = service.endpoint.iter().flat_map(|endpoint| &endpoint.virtual_ips);
    let of_tasks = view.tasks_of_service(&service.id).flat_map(|task| networks_of(task));
    addresses.map(|address| address.network_id.clone()).chain(of_tasks.map(str::to_owned))
}

fn service_view(view: &View, network: &Network, service: &Service) -> ServiceView {
    let annotations = service.spec.iter().find_map(|spec| spec.annotations.as_ref());
    let label = |key: &str| annotations.and_then(|all| all.labels.get(key)).cloned().unwrap_or_default();
    let endpoint = service.endpoint.as_ref();
    let addresses = endpoint.into_iter().flat_map(|endpoint| &endpoint.virtual_ips);
    let own = addresses.filter(|address| address.network_id == network.id);
    let ports = endpoint.filter(|_| is_ingress(network)).into_iter().flat_map(|endpoint| &endpoint.ports);
    ServiceView {
        id: service.id.clone(),
        name: annotations.map(|all| all.name.clone()).unwrap_or_default(),
        aliases: aliases(view, network, service),
        stack: label(STACK_LABEL),
        virtual_ips: own.filter_map(|ip| host_address(&ip.addr)).map(|ip| ip.to_string()).collect(),
        ports: ports.filter(|port| port.publish_mode() == PublishMode::Ingress).map(port).collect(),
        source: label(SOURCE_LABEL),
    }
}

/// Those of the spec, and those of tasks that an update has not replaced yet: a name stays while one task has it.
fn aliases(view: &View, network: &Network, service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let task = spec.and_then(|spec| spec.task.as_ref());
    let wished =
        task.into_iter().flat_map(|task| &task.networks).chain(spec.iter().flat_map(|s| &s.networks));
    let wished = wished.filter(|wish| wish.target == network.id).flat_map(|wish| &wish.aliases);
    let running = view.tasks_of_service(&service.id).filter(|task| {
        task.desired_state() <= TaskState::Running
            && task.status.as_ref().is_none_or(|status| status.state() <= TaskState::Running)
    });
    let given = running
        .flat_map(|task| &task.networks)
        .filter(|place| place.network.as_ref().is_some_and(|found| found.id == network.id))
        .flat_map(|place| &place.aliases);
    let all: BTreeSet<&String> = wished.chain(given).collect();
    all.into_iter().cloned().collect()
}

fn port(port: &PortConfig) -> ServicePort {
    ServicePort {
        name: port.name.clone(),
        protocol: port.protocol,
        published: port.published_port,
        target: port.target_port,
    }
}
