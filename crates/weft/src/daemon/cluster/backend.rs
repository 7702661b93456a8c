//! What the API asks of the swarm, answered by the membership that runs.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use weft_api::{
    InitRequest, JoinRequest, LocalEndpoint, LocalNodeState, NetworkScope, RemoteManager, Rotate,
    ServiceStatus, SwarmBackend, SwarmChanges, SwarmError, SwarmLogs, SwarmResult, SwarmStatus,
};
use weft_global::EndpointRecord;
use weft_manager::{Control, Manager, Rotation};
use weft_types::EndpointId;
use weft_wire::swarmkit::{
    self, Config, ConfigSpec, LogSelector, LogSubscriptionOptions, Secret, SecretSpec, Service, ServiceSpec,
    Task,
};

use super::{Cluster, Membership, changes, refused};

impl Cluster {
    /// The control interface, or Docker's words for why there is none here.
    pub(super) fn control(&self) -> SwarmResult<(Arc<Membership>, Control)> {
        if self.is_locked() {
            return Err(SwarmError::Locked);
        }
        let member = self.member().ok_or(SwarmError::NoSwarm)?;
        let control = member.manager().ok_or(SwarmError::NotManager)?.control();
        Ok((member, control))
    }
}

impl Cluster {
    /// The control interface with everything that any manager answered before; without a leader, Docker's words.
    async fn fresh(&self) -> SwarmResult<(Arc<Membership>, Control)> {
        let (member, control) = self.control()?;
        control.barrier().await.map_err(refused)?;
        Ok((member, control))
    }
}

impl Membership {
    /// This node's manager, up to date if there is a leader to ask: what it knows of networks is good without one.
    async fn newest_manager(&self) -> Option<Arc<Manager>> {
        let manager = self.manager()?;
        if manager.has_leader()
            && let Err(error) = manager.control().barrier().await
        {
            tracing::debug!(%error, "the networks of the swarm may be out of date");
        }
        Some(manager)
    }

    fn status(&self) -> SwarmStatus {
        let agent = self.agent.status().borrow().clone();
        let control = self.manager().map(|m| m.control());
        let nodes = control.as_ref().map(Control::nodes).unwrap_or_default();
        let managers = nodes.iter().filter(|n| n.manager_status.is_some()).count() as u64;
        let warnings = control.iter().flat_map(|c| {
            c.networks().into_iter().flat_map(|n| c.network_warnings(&n.id)).collect::<Vec<_>>()
        });
        SwarmStatus {
            state: if agent.ready || agent.node.is_some() {
                LocalNodeState::Active
            } else {
                LocalNodeState::Pending
            },
            node_id: self.identity.identity().node_id.to_string(),
            node_addr: self.addresses.advertise.ip().to_string(),
            control_available: control.is_some(),
            error: agent.error.unwrap_or_default(),
            remote_managers: agent
                .managers
                .iter()
                .map(|(id, addr)| RemoteManager { node_id: id.clone(), addr: addr.to_string() })
                .collect(),
            nodes: control.as_ref().map(|_| nodes.len() as u64),
            managers: control.as_ref().map(|_| managers),
            warnings: warnings.collect(),
            cluster: control.as_ref().map(|c| swarmkit::Cluster::clone(&c.cluster())),
        }
    }
}

impl Membership {
    /// Networks that the managers told this node of by itself: the ingress network.
    fn networks_of_node(&self) -> Vec<swarmkit::Network> {
        let status = self.agent.status().borrow().clone();
        let attachments = status.node.into_iter().flat_map(|node| node.attachments);
        attachments.filter_map(|attachment| attachment.network).collect()
    }
}

#[async_trait]
impl SwarmBackend for Cluster {
    fn status(&self) -> SwarmStatus {
        if let Some(member) = self.member() {
            return member.status();
        }
        if self.is_locked() {
            return SwarmStatus { state: LocalNodeState::Locked, ..Default::default() };
        }
        match self.broken.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone() {
            Some(error) => SwarmStatus { state: LocalNodeState::Error, error, ..Default::default() },
            None => SwarmStatus::default(),
        }
    }

    async fn init(&self, request: InitRequest) -> SwarmResult<String> {
        self.init_swarm(request).await
    }

    async fn join(&self, request: JoinRequest) -> SwarmResult<()> {
        self.join_swarm(request).await
    }

    async fn leave(&self, force: bool) -> SwarmResult<()> {
        self.leave_swarm(force).await
    }

    async fn cluster(&self) -> SwarmResult<swarmkit::Cluster> {
        Ok(swarmkit::Cluster::clone(&self.fresh().await?.1.cluster()))
    }

    async fn update_cluster(
        &self,
        version: u64,
        spec: swarmkit::ClusterSpec,
        rotate: Rotate,
    ) -> SwarmResult<()> {
        let rotation = Rotation {
            worker_join_token: rotate.worker_token,
            manager_join_token: rotate.manager_token,
            manager_unlock_key: rotate.manager_unlock_key,
            network_keys: rotate.network_keys,
        };
        self.fresh().await?.1.update_cluster(version, spec, rotation).await.map_err(refused).map(drop)
    }

    async fn unlock_key(&self) -> SwarmResult<String> {
        Ok(self.fresh().await?.1.unlock_key())
    }

    async fn unlock(&self, key: String) -> SwarmResult<()> {
        self.unlock_swarm(&key).await
    }

    async fn nodes(&self) -> SwarmResult<Vec<swarmkit::Node>> {
        Ok(self.fresh().await?.1.nodes().iter().map(|n| swarmkit::Node::clone(n)).collect())
    }

    async fn node(&self, term: &str) -> SwarmResult<swarmkit::Node> {
        let (member, control) = self.fresh().await?;
        let own = member.identity.identity().node_id.to_string();
        let node = control.node(if term == "self" { &own } else { term }).map_err(refused)?;
        Ok(swarmkit::Node::clone(&node))
    }

    async fn update_node(&self, term: &str, version: u64, spec: swarmkit::NodeSpec) -> SwarmResult<()> {
        let (_, control) = self.fresh().await?;
        let id = control.node(term).map_err(refused)?.id.clone();
        control.update_node(&id, version, spec).await.map_err(refused).map(drop)
    }

    async fn remove_node(&self, term: &str, force: bool) -> SwarmResult<()> {
        self.fresh().await?.1.remove_node(term, force).await.map_err(refused)
    }

    fn network_scope(&self) -> NetworkScope {
        if self.config.global.is_some() { NetworkScope::Global } else { NetworkScope::Swarm }
    }

    fn remote_endpoints(&self, network: &str) -> Vec<LocalEndpoint> {
        let (Some(global), Ok(id)) = (&self.config.global, network.parse()) else { return Vec::new() };
        global.remote_endpoints(&id).iter().map(|(id, record)| elsewhere(id, record)).collect()
    }

    async fn networks(&self) -> SwarmResult<Vec<swarmkit::Network>> {
        if let Some(global) = &self.config.global {
            return Ok(global.networks());
        }
        let member = self.member().ok_or(SwarmError::NoSwarm)?;
        match member.newest_manager().await {
            Some(manager) => {
                Ok(manager.control().networks().iter().map(|n| swarmkit::Network::clone(n)).collect())
            }
            None => Ok(member.networks_of_node()),
        }
    }

    async fn network(&self, term: &str) -> SwarmResult<swarmkit::Network> {
        if let Some(global) = &self.config.global {
            return global.network(term).await.map_err(refused);
        }
        let member = self.member().ok_or(SwarmError::NoSwarm)?;
        if let Some(manager) = member.newest_manager().await {
            let network = manager.control().network(term).map_err(refused)?;
            return Ok(swarmkit::Network::clone(&network));
        }
        let is_meant = |network: &swarmkit::Network| {
            let name = network.spec.as_ref().and_then(|s| s.annotations.as_ref()).map(|a| a.name.as_str());
            network.id == term || name == Some(term)
        };
        member.networks_of_node().into_iter().find(is_meant).ok_or(SwarmError::NotManager)
    }

    async fn create_network(&self, spec: swarmkit::NetworkSpec) -> SwarmResult<String> {
        if let Some(global) = &self.config.global {
            return global.create(&spec).await.map(|id| id.to_string()).map_err(refused);
        }
        let network = self.fresh().await?.1.create_network(spec).await.map_err(refused)?;
        Ok(network.id.clone())
    }

    async fn remove_network(&self, term: &str) -> SwarmResult<()> {
        if let Some(global) = &self.config.global {
            return global.remove(term).await.map_err(refused);
        }
        self.fresh().await?.1.remove_network(term).await.map_err(refused)
    }

    async fn tasks(&self) -> SwarmResult<Vec<Arc<Task>>> {
        Ok(self.fresh().await?.1.tasks())
    }

    async fn task(&self, term: &str) -> SwarmResult<Arc<Task>> {
        self.fresh().await?.1.task(term).map_err(refused)
    }

    async fn services(&self) -> SwarmResult<Vec<Arc<Service>>> {
        Ok(self.fresh().await?.1.services())
    }

    async fn service(&self, term: &str) -> SwarmResult<Arc<Service>> {
        self.fresh().await?.1.service(term).map_err(refused)
    }

    async fn service_status(&self, id: &str) -> SwarmResult<ServiceStatus> {
        // Asked for each service of a list that was fresh: not by the quorum once more.
        let status = self.control()?.1.service_status(id);
        Ok(ServiceStatus { running: status.running, desired: status.desired, completed: status.completed })
    }

    async fn create_service(&self, spec: ServiceSpec) -> SwarmResult<String> {
        let service = self.fresh().await?.1.create_service(spec).await.map_err(refused)?;
        Ok(service.id.clone())
    }

    async fn update_service(
        &self,
        id: &str,
        version: u64,
        spec: ServiceSpec,
        rollback: bool,
    ) -> SwarmResult<()> {
        self.fresh().await?.1.update_service(id, version, spec, rollback).await.map_err(refused).map(drop)
    }

    async fn remove_service(&self, term: &str) -> SwarmResult<()> {
        self.fresh().await?.1.remove_service(term).await.map_err(refused)
    }

    async fn logs(&self, selector: LogSelector, options: LogSubscriptionOptions) -> SwarmResult<SwarmLogs> {
        let messages = self.fresh().await?.1.subscribe_logs(selector, options).await.map_err(refused)?;
        Ok(Box::pin(messages.map(|message| message.map_err(refused))))
    }

    async fn secrets(&self) -> SwarmResult<Vec<Arc<Secret>>> {
        Ok(self.fresh().await?.1.secrets())
    }

    async fn secret(&self, term: &str) -> SwarmResult<Arc<Secret>> {
        self.fresh().await?.1.secret(term).map_err(refused)
    }

    async fn create_secret(&self, spec: SecretSpec) -> SwarmResult<String> {
        let secret = self.fresh().await?.1.create_secret(spec).await.map_err(refused)?;
        Ok(secret.id.clone())
    }

    async fn update_secret(&self, id: &str, version: u64, spec: SecretSpec) -> SwarmResult<()> {
        self.fresh().await?.1.update_secret(id, version, spec).await.map_err(refused).map(drop)
    }

    async fn remove_secret(&self, term: &str) -> SwarmResult<()> {
        self.fresh().await?.1.remove_secret(term).await.map_err(refused)
    }

    async fn configs(&self) -> SwarmResult<Vec<Arc<Config>>> {
        Ok(self.fresh().await?.1.configs())
    }

    async fn config(&self, term: &str) -> SwarmResult<Arc<Config>> {
        self.fresh().await?.1.config(term).map_err(refused)
    }

    async fn create_config(&self, spec: ConfigSpec) -> SwarmResult<String> {
        let config = self.fresh().await?.1.create_config(spec).await.map_err(refused)?;
        Ok(config.id.clone())
    }

    async fn update_config(&self, id: &str, version: u64, spec: ConfigSpec) -> SwarmResult<()> {
        self.fresh().await?.1.update_config(id, version, spec).await.map_err(refused).map(drop)
    }

    async fn remove_config(&self, term: &str) -> SwarmResult<()> {
        self.fresh().await?.1.remove_config(term).await.map_err(refused)
    }

    fn changes(self: Arc<Self>) -> SwarmChanges {
        Box::pin(changes::of(&self))
    }
}

/// An endpoint of another host, in Docker's words.
fn elsewhere(id: &EndpointId, record: &EndpointRecord) -> LocalEndpoint {
    let address = |ipv6: bool| {
        let found = record.addresses.iter().find(|address| address.ip().is_ipv6() == ipv6);
        found.map(ToString::to_string).unwrap_or_default()
    };
    LocalEndpoint {
        container: format!("ep-{id}"),
        name: record.name.clone(),
        endpoint_id: id.to_string(),
        mac: record.mac.to_string(),
        ipv4: address(false),
        ipv6: address(true),
    }
}
