//! What a task demands of a node, in the order in which nodes are asked.

use weft_wire::swarmkit::{
    Node, Platform, Resources, Task, mount::Type, node_spec::Availability, node_status::State,
};

use super::constraint::Constraint;
use super::node_state::{HostPort, NodeState, host_ports, reservations};
use super::plugins::{PluginDemand, mounts_of};

/// Why a node does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Misfit {
    NotAvailable,
    Resources,
    Plugins,
    Constraints,
    Platform,
    HostPorts,
    MaxReplicas,
    ClusterVolumes,
}

/// Read once for all tasks of one version of a service's spec.
#[derive(Debug)]
pub(super) struct Demand<'a> {
    reservations: Option<&'a Resources>,
    plugins: PluginDemand<'a>,
    constraints: Vec<Constraint>,
    platforms: &'a [Platform],
    host_ports: Vec<HostPort>,
    /// 0: no limit.
    max_replicas: u64,
    has_cluster_volumes: bool,
}

impl<'a> Demand<'a> {
    pub(super) fn of_task(task: &'a Task) -> Self {
        let placement = task.spec.as_ref().and_then(|spec| spec.placement.as_ref());
        let texts = placement.map_or(&[][..], |placement| &placement.constraints);
        Self {
            reservations: reservations(task),
            plugins: PluginDemand::of_task(task),
            // They were checked when the service was made; what still cannot be read demands nothing, as in
            // SwarmKit.
            constraints: Constraint::parse_all(texts).unwrap_or_default(),
            platforms: placement.map_or(&[], |placement| &placement.platforms),
            host_ports: host_ports(task).collect(),
            max_replicas: placement.map_or(0, |placement| placement.max_replicas),
            has_cluster_volumes: mounts_of(task).iter().any(|mount| mount.r#type() == Type::Cluster),
        }
    }

    /// The first thing that a node lacks, if any.
    pub(super) fn misfit(&self, state: &NodeState<'_>, tasks_of_service: u32) -> Option<Misfit> {
        let node = state.node;
        let fits = [
            (Misfit::NotAvailable, is_available(node)),
            (Misfit::Resources, self.fits_resources(state)),
            (Misfit::Plugins, self.plugins.is_met_by(node)),
            (Misfit::Constraints, self.constraints.iter().all(|constraint| constraint.is_met_by(node))),
            (Misfit::Platform, self.fits_platform(node)),
            (Misfit::HostPorts, self.fits_host_ports(state)),
            (Misfit::MaxReplicas, self.fits_max_replicas(tasks_of_service)),
            (Misfit::ClusterVolumes, !self.has_cluster_volumes),
        ];
        fits.into_iter().find(|(_, fits)| !fits).map(|(misfit, _)| misfit)
    }

    /// Whether a node that fitted still does, after tasks were given to it.
    pub(super) fn still_fits(&self, state: &NodeState<'_>, tasks_of_service: u32) -> bool {
        self.fits_resources(state) && self.fits_host_ports(state) && self.fits_max_replicas(tasks_of_service)
    }

    fn fits_resources(&self, state: &NodeState<'_>) -> bool {
        self.reservations.is_none_or(|wanted| {
            // Not asked for is not the same as none: a node that gave away too much still takes such tasks.
            (wanted.nano_cpus == 0 || wanted.nano_cpus <= state.free_nano_cpus)
                && (wanted.memory_bytes == 0 || wanted.memory_bytes <= state.free_memory)
                && state.free_generic.has(&wanted.generic)
        })
    }

    fn fits_platform(&self, node: &Node) -> bool {
        if self.platforms.is_empty() {
            return true;
        }
        let platform = node.description.as_ref().and_then(|description| description.platform.as_ref());
        platform.is_some_and(|has| self.platforms.iter().any(|wanted| is_platform(wanted, has)))
    }

    fn fits_host_ports(&self, state: &NodeState<'_>) -> bool {
        self.host_ports.iter().all(|port| !state.host_ports.contains(port))
    }

    fn fits_max_replicas(&self, tasks_of_service: u32) -> bool {
        self.max_replicas == 0 || u64::from(tasks_of_service) < self.max_replicas
    }
}

fn is_available(node: &Node) -> bool {
    let is_ready = node.status.as_ref().is_some_and(|status| status.state() == State::Ready);
    let availability = node.spec.as_ref().map_or(Availability::Active, |spec| spec.availability());
    is_ready && availability == Availability::Active
}

/// What is not named is any.
fn is_platform(wanted: &Platform, has: &Platform) -> bool {
    let fits = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
    fits(architecture(&wanted.architecture), architecture(&has.architecture)) && fits(&wanted.os, &has.os)
}

/// By Go's name, which images carry; nodes say what `uname` says.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
