//! An API with a real engine, and stand-ins for the networks and the swarm.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bollard_stubs::models::{EndpointSettings, PortMap};
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use weft_api::{
    ApiState, EncryptedPath, InitRequest, JoinRequest, Listener, LocalNetwork, LocalNodeState,
    NetworkBackend, NetworkEvent, NetworkFigures, NetworkScope, NetworkService, Rotate, Server,
    ServiceStatus, SwarmBackend, SwarmChanges, SwarmError, SwarmLogs, SwarmResult, SwarmStatus,
    SystemSettings,
};
use weft_engine::{ContainerNetwork, Engine, EngineConfig, NetworkFailure, Reexec, SandboxSpec, SandboxView};
use weft_network::NetworkSpec;
use weft_types::{ContainerId, ErrorKind};
use weft_wire::swarmkit::{
    self, Cluster, ClusterSpec, Config, ConfigSpec, LogSelector, LogSubscriptionOptions, Network, Node,
    NodeSpec, Secret, SecretSpec, Service, ServiceSpec, Task,
};

/// A served API in a folder of its own.
pub(crate) struct Api {
    dir: TempDir,
    server: Server,
}

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// `{"message": …}`, and nothing else.
    pub(crate) fn message(&self) -> String {
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{}", self.text);
        body["message"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl Api {
    pub(crate) async fn start(state: LocalNodeState, manager: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("api.sock")).unwrap();
        Self::serve(state, manager, dir, vec![Listener::Unix(listener)]).await
    }

    pub(crate) async fn serve(
        state: LocalNodeState,
        manager: bool,
        dir: TempDir,
        listeners: Vec<Listener>,
    ) -> Self {
        let reexec = Reexec::current_exe().unwrap();
        let config = EngineConfig::new(dir.path().join("data"), dir.path().join("exec"), reexec);
        let engine = Engine::open(config, Arc::new(NoNetwork)).await.unwrap();
        let swarm = Arc::new(FakeSwarm { state, manager, networks: Mutex::default() });
        let settings =
            SystemSettings { version: "0.0".to_owned(), hostname: "host".to_owned(), ..Default::default() };
        let state = ApiState::new(engine, Arc::new(FakeNetworks), swarm, settings);
        let server = Server::start(state, listeners).unwrap();
        Self { dir, server }
    }

    /// Stops serving.
    pub(crate) async fn stop(self, limit: Duration) {
        self.server.stop(limit).await;
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> tokio::net::UnixStream {
        tokio::net::UnixStream::connect(self.dir.path().join("api.sock")).await.unwrap()
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let stream = self.connect().await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "docker");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let limit = Duration::from_secs(10);
        let response = tokio::time::timeout(limit, sender.send_request(request)).await.unwrap().unwrap();
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(limit, body.collect()).await.unwrap().unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        let headers: &[(&str, &str)] =
            if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        self.call(Method::POST, path, headers, body.to_owned()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], "").await
    }
}

/// Containers of these tests are never started.
struct NoNetwork;

fn failure() -> NetworkFailure {
    NetworkFailure { message: "no network in this test".to_owned(), kind: ErrorKind::System }
}

#[async_trait]
impl ContainerNetwork for NoNetwork {
    async fn create_sandbox(&self, _: SandboxSpec) -> Result<SandboxView, NetworkFailure> {
        Err(failure())
    }
    async fn connect(
        &self,
        _: &ContainerId,
        _: &str,
        _: &EndpointSettings,
    ) -> Result<EndpointSettings, NetworkFailure> {
        Err(failure())
    }
    async fn disconnect(&self, _: &ContainerId, _: &str, _: bool) -> Result<(), NetworkFailure> {
        Err(failure())
    }
    async fn publish(&self, _: &ContainerId) -> Result<PortMap, NetworkFailure> {
        Err(failure())
    }
    async fn remove_sandbox(&self, _: &ContainerId) -> Result<(), NetworkFailure> {
        Ok(())
    }
    async fn adopt(&self, _: &[ContainerId]) -> Result<(), NetworkFailure> {
        Ok(())
    }
    fn check(&self, _: &str, _: &EndpointSettings) -> Result<(), NetworkFailure> {
        Ok(())
    }
    fn display_name(&self, network: &str) -> Option<String> {
        Some(network.to_owned())
    }
    fn endpoints(&self, _: &ContainerId) -> HashMap<String, EndpointSettings> {
        HashMap::new()
    }
}

/// One bridge; creation echoes what was asked for as the new network's id.
struct FakeNetworks;

#[async_trait]
impl NetworkBackend for FakeNetworks {
    fn networks(&self) -> Vec<LocalNetwork> {
        vec![LocalNetwork {
            id: "b".repeat(64),
            name: "bridge".to_owned(),
            created: SystemTime::now(),
            scope: NetworkScope::Local,
            driver: "bridge".to_owned(),
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            ingress: false,
            subnets: Vec::new(),
            options: Default::default(),
            labels: Default::default(),
            ipam_options: None,
            config_only: false,
            config_from: String::new(),
            predefined: true,
            containers: Vec::new(),
            peers: None,
        }]
    }
    fn services_on(&self, _: &str) -> Vec<NetworkService> {
        Vec::new()
    }
    fn encrypted_paths(&self, _: &str) -> Option<Vec<EncryptedPath>> {
        None
    }
    async fn figures(&self) -> NetworkFigures {
        NetworkFigures::default()
    }
    async fn create_network(&self, spec: NetworkSpec) -> Result<String, NetworkFailure> {
        Ok(format!("{spec:?}"))
    }
    async fn remove_network(&self, _: &str) -> Result<(), NetworkFailure> {
        Ok(())
    }
    fn events(&self) -> Pin<Box<dyn Stream<Item = NetworkEvent> + Send>> {
        Box::pin(futures_util::stream::empty())
    }
}

/// A swarm that knows its networks.
struct FakeSwarm {
    state: LocalNodeState,
    manager: bool,
    networks: Mutex<Vec<Network>>,
}

impl FakeSwarm {
    fn managed(&self) -> SwarmResult<()> {
        match (self.state, self.manager) {
            (LocalNodeState::Inactive, _) => Err(SwarmError::NoSwarm),
            (_, false) => Err(SwarmError::NotManager),
            (_, true) => Ok(()),
        }
    }
}

#[async_trait]
impl SwarmBackend for FakeSwarm {
    fn status(&self) -> SwarmStatus {
        SwarmStatus { state: self.state, control_available: self.manager, ..SwarmStatus::default() }
    }
    async fn init(&self, request: InitRequest) -> SwarmResult<String> {
        Ok(request.listen_addr)
    }
    async fn join(&self, _: JoinRequest) -> SwarmResult<()> {
        Ok(())
    }
    async fn leave(&self, force: bool) -> SwarmResult<()> {
        match (self.state, force) {
            (LocalNodeState::Inactive, _) => Err(SwarmError::NotInSwarm),
            (_, false) if self.manager => Err(SwarmError::LastManagerLeaves),
            _ => Ok(()),
        }
    }
    async fn cluster(&self) -> SwarmResult<Cluster> {
        self.managed()?;
        Ok(Cluster::default())
    }
    async fn update_cluster(&self, _: u64, _: ClusterSpec, _: Rotate) -> SwarmResult<()> {
        self.managed()
    }
    async fn unlock_key(&self) -> SwarmResult<String> {
        self.managed()?;
        Ok(String::new())
    }
    async fn unlock(&self, _: String) -> SwarmResult<()> {
        self.managed()
    }
    async fn nodes(&self) -> SwarmResult<Vec<Node>> {
        self.managed()?;
        Ok(Vec::new())
    }
    async fn node(&self, term: &str) -> SwarmResult<Node> {
        self.managed()?;
        Err(SwarmError::Failed { kind: ErrorKind::NotFound, message: format!("node {term} not found") })
    }
    async fn update_node(&self, _: &str, _: u64, _: NodeSpec) -> SwarmResult<()> {
        self.managed()
    }
    async fn remove_node(&self, _: &str, _: bool) -> SwarmResult<()> {
        self.managed()
    }
    async fn networks(&self) -> SwarmResult<Vec<Network>> {
        self.managed()?;
        Ok(self.networks.lock().unwrap().clone())
    }
    async fn network(&self, term: &str) -> SwarmResult<Network> {
        self.managed()?;
        let name = |n: &Network| n.spec.as_ref().unwrap().annotations.as_ref().unwrap().name.clone();
        let networks = self.networks.lock().unwrap();
        let found = networks.iter().find(|n| n.id == term || name(n) == term);
        found.cloned().ok_or_else(|| SwarmError::Failed {
            kind: ErrorKind::NotFound,
            message: format!("network {term} not found"),
        })
    }
    async fn create_network(&self, spec: swarmkit::NetworkSpec) -> SwarmResult<String> {
        self.managed()?;
        let id = "n".repeat(25);
        self.networks.lock().unwrap().push(Network {
            id: id.clone(),
            spec: Some(spec),
            ..Network::default()
        });
        Ok(id)
    }
    async fn remove_network(&self, id: &str) -> SwarmResult<()> {
        self.managed()?;
        self.networks.lock().unwrap().retain(|n| n.id != id);
        Ok(())
    }
    async fn tasks(&self) -> SwarmResult<Vec<Arc<Task>>> {
        self.managed()?;
        Ok(Vec::new())
    }
    async fn task(&self, term: &str) -> SwarmResult<Arc<Task>> {
        self.managed()?;
        Err(not_found("task", term))
    }
    async fn services(&self) -> SwarmResult<Vec<Arc<Service>>> {
        self.managed()?;
        Ok(Vec::new())
    }
    async fn service(&self, term: &str) -> SwarmResult<Arc<Service>> {
        self.managed()?;
        Err(not_found("service", term))
    }
    async fn create_service(&self, _: ServiceSpec) -> SwarmResult<String> {
        self.managed()?;
        Ok("s".repeat(25))
    }
    async fn service_status(&self, _: &str) -> SwarmResult<ServiceStatus> {
        self.managed()?;
        Ok(ServiceStatus::default())
    }
    async fn update_service(&self, _: &str, _: u64, _: ServiceSpec, _: bool) -> SwarmResult<()> {
        self.managed()
    }
    async fn remove_service(&self, _: &str) -> SwarmResult<()> {
        self.managed()
    }
    async fn logs(&self, _: LogSelector, _: LogSubscriptionOptions) -> SwarmResult<SwarmLogs> {
        self.managed()?;
        Ok(Box::pin(futures_util::stream::empty()))
    }
    async fn secrets(&self) -> SwarmResult<Vec<Arc<Secret>>> {
        self.managed()?;
        Ok(Vec::new())
    }
    async fn secret(&self, term: &str) -> SwarmResult<Arc<Secret>> {
        self.managed()?;
        Err(not_found("secret", term))
    }
    async fn create_secret(&self, _: SecretSpec) -> SwarmResult<String> {
        self.managed()?;
        Ok("x".repeat(25))
    }
    async fn update_secret(&self, _: &str, _: u64, _: SecretSpec) -> SwarmResult<()> {
        self.managed()
    }
    async fn remove_secret(&self, _: &str) -> SwarmResult<()> {
        self.managed()
    }
    async fn configs(&self) -> SwarmResult<Vec<Arc<Config>>> {
        self.managed()?;
        Ok(Vec::new())
    }
    async fn config(&self, term: &str) -> SwarmResult<Arc<Config>> {
        self.managed()?;
        Err(not_found("config", term))
    }
    async fn create_config(&self, _: ConfigSpec) -> SwarmResult<String> {
        self.managed()?;
        Ok("c".repeat(25))
    }
    async fn update_config(&self, _: &str, _: u64, _: ConfigSpec) -> SwarmResult<()> {
        self.managed()
    }
    async fn remove_config(&self, _: &str) -> SwarmResult<()> {
        self.managed()
    }
    fn changes(self: Arc<Self>) -> SwarmChanges {
        Box::pin(futures_util::stream::empty())
    }
}

fn not_found(what: &str, term: &str) -> SwarmError {
    SwarmError::Failed { kind: ErrorKind::NotFound, message: format!("{what} {term} not found") }
}
