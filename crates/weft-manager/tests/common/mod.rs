//! A swarm in this process: a real manager on loopback, real nodes with certificates over mutual TLS.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

pub mod managers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tonic::Streaming;
use tonic::transport::Channel;
use weft_identity::{ChannelMode, IdentityHandle, JoinToken, NodeIdentity, bootstrap, channel};
use weft_manager::{Control, InitOptions, Manager, ManagerConfig, Timing};
use weft_wire::swarmkit::assignment::Item;
use weft_wire::swarmkit::assignment_change::AssignmentAction;
use weft_wire::swarmkit::dispatcher_client::DispatcherClient;
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::resource_allocator_client::ResourceAllocatorClient;
use weft_wire::swarmkit::*;
use weft_wire::weft_v1::network_state_client::NetworkStateClient;
use weft_wire::weft_v1::{Endpoint, ReportRequest, WatchMessage, WatchRequest};

/// Nothing on this machine takes longer.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn fast() -> Timing {
    Timing {
        heartbeat_period: Some(Duration::from_secs(60)),
        rate_limit_count: 100,
        helper_port: None,
        ..Timing::default()
    }
}

pub struct Swarm {
    pub dir: TempDir,
    pub manager: Arc<Manager>,
    pub identity: IdentityHandle,
    pub timing: Timing,
}

impl Swarm {
    pub async fn start() -> Self {
        Self::with(fast(), InitOptions::new("m1")).await
    }

    pub async fn with(timing: Timing, options: InitOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (manager, identity) = Manager::init(config(&dir, timing), options).await.unwrap();
        let identity = IdentityHandle::in_memory(identity).unwrap();
        drop(manager.serve(identity.clone()));
        Self { dir, manager, identity, timing }
    }

    /// Stops the manager and opens its files again.
    pub async fn restart(&mut self) {
        self.manager.stop().await;
        self.manager = Manager::open(config(&self.dir, self.timing), self.identity.clone()).await.unwrap();
        drop(self.manager.serve(self.identity.clone()));
    }

    pub fn address(&self) -> SocketAddr {
        self.manager.local_addr()
    }

    pub fn control(&self) -> Control {
        self.manager.control()
    }

    pub fn worker_token(&self) -> JoinToken {
        self.tokens().worker.parse().unwrap()
    }

    pub fn tokens(&self) -> JoinTokens {
        self.control().cluster().root_ca.clone().unwrap().join_tokens.unwrap()
    }

    pub async fn join(&self) -> NodeIdentity {
        bootstrap(self.address(), &self.worker_token(), Availability::Active).await.unwrap()
    }

    /// A worker with a session, as a Weft node describes itself.
    pub async fn weft_node(&self, hostname: &str) -> Member {
        Member::open(self, self.join().await, hostname, "28.5.2+weft-0.1.0").await
    }

    /// A worker with a session, as a dockerd describes itself.
    pub async fn docker_node(&self, hostname: &str) -> Member {
        Member::open(self, self.join().await, hostname, "28.5.2").await
    }

    pub async fn overlay(&self, name: &str) -> Arc<Network> {
        self.control().create_network(overlay_spec(name)).await.unwrap()
    }
}

pub fn config(dir: &TempDir, timing: Timing) -> ManagerConfig {
    let any = "127.0.0.1:0".parse().unwrap();
    ManagerConfig { timing, ..ManagerConfig::new(dir.path().join("manager"), any, any) }
}

pub fn overlay_spec(name: &str) -> NetworkSpec {
    NetworkSpec {
        annotations: Some(Annotations { name: name.to_owned(), ..Default::default() }),
        driver_config: Some(Driver { name: "overlay".to_owned(), ..Default::default() }),
        attachable: true,
        ..Default::default()
    }
}

pub fn with_subnet(name: &str, subnet: &str) -> NetworkSpec {
    let config = IpamConfig { subnet: subnet.to_owned(), ..Default::default() };
    NetworkSpec { ipam: Some(IpamOptions { driver: None, configs: vec![config] }), ..overlay_spec(name) }
}

/// A node with an open session.
pub struct Member {
    pub identity: IdentityHandle,
    pub channel: Channel,
    pub session_id: String,
    pub session: Streaming<SessionMessage>,
    pub first: SessionMessage,
}

pub fn describe(hostname: &str, engine_version: &str) -> NodeDescription {
    NodeDescription {
        hostname: hostname.to_owned(),
        engine: Some(EngineDescription { engine_version: engine_version.to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

impl Member {
    pub async fn open(swarm: &Swarm, identity: NodeIdentity, hostname: &str, version: &str) -> Self {
        let identity = IdentityHandle::in_memory(identity).unwrap();
        let channel = channel(swarm.address(), ChannelMode::Node(&identity)).unwrap();
        let request = SessionRequest { description: Some(describe(hostname, version)), ..Default::default() };
        let mut session = DispatcherClient::new(channel.clone()).session(request).await.unwrap().into_inner();
        let first = next(&mut session).await;
        Self { identity, channel, session_id: first.session_id.clone(), session, first }
    }

    pub fn id(&self) -> String {
        self.identity.identity().node_id.to_string()
    }

    pub fn dispatcher(&self) -> DispatcherClient<Channel> {
        DispatcherClient::new(self.channel.clone())
    }

    pub fn allocator(&self) -> ResourceAllocatorClient<Channel> {
        ResourceAllocatorClient::new(self.channel.clone())
    }

    pub fn network_state(&self) -> NetworkStateClient<Channel> {
        NetworkStateClient::new(self.channel.clone())
    }

    pub async fn assignments(&self) -> Streaming<AssignmentsMessage> {
        let request = AssignmentsRequest { session_id: self.session_id.clone() };
        self.dispatcher().assignments(request).await.unwrap().into_inner()
    }

    pub async fn attach(&self, target: &str, addresses: &[&str]) -> Result<String, tonic::Status> {
        let config = NetworkAttachmentConfig {
            target: target.to_owned(),
            addresses: addresses.iter().map(|&text| text.to_owned()).collect(),
            ..Default::default()
        };
        let request = AttachNetworkRequest { config: Some(config), container_id: "c0ffee".to_owned() };
        Ok(self.allocator().attach_network(request).await?.into_inner().attachment_id)
    }

    pub async fn detach(&self, attachment: &str) -> Result<(), tonic::Status> {
        let request = DetachNetworkRequest { attachment_id: attachment.to_owned() };
        self.allocator().detach_network(request).await.map(drop)
    }

    pub async fn watch(&self) -> Streaming<WatchMessage> {
        let request = WatchRequest { session_id: self.session_id.clone(), network_ids: Vec::new() };
        self.network_state().watch(request).await.unwrap().into_inner()
    }

    pub fn report(&self, vtep: &str, mtu: u32, endpoints: Vec<Endpoint>) -> ReportRequest {
        ReportRequest {
            session_id: self.session_id.clone(),
            data_path_address: vtep.to_owned(),
            data_path_mtu: mtu,
            engine: "weft".to_owned(),
            gossip_name: "0123456789ab".to_owned(),
            endpoints,
            ..ReportRequest::default()
        }
    }

    /// The next session message that `wanted` accepts.
    pub async fn session_until(&mut self, wanted: impl Fn(&SessionMessage) -> bool) -> SessionMessage {
        loop {
            let message = next(&mut self.session).await;
            if wanted(&message) {
                return message;
            }
        }
    }
}

/// The endpoint that stands for an attachment.
pub fn endpoint(task: &Task, name: &str) -> Endpoint {
    let attachment = &task.networks[0];
    Endpoint {
        id: format!("{:0>64}", task.id.bytes().map(|b| format!("{:x}", b & 15)).collect::<String>()),
        network_id: attachment.network.as_ref().unwrap().id.clone(),
        attachment_id: task.id.clone(),
        address: attachment.addresses[0].clone(),
        mac: "02:42:0a:00:01:08".to_owned(),
        name: name.to_owned(),
        healthy: true,
        ..Default::default()
    }
}

pub async fn next<T>(stream: &mut Streaming<T>) -> T {
    let message = tokio::time::timeout(DEADLINE, stream.message()).await.expect("a message in time");
    message.expect("no error").expect("the stream goes on")
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn tasks_in(message: &AssignmentsMessage, action: AssignmentAction) -> Vec<Task> {
    let of_action = message.changes.iter().filter(|change| change.action() == action);
    of_action
        .filter_map(|change| match change.assignment.as_ref()?.item.as_ref()? {
            Item::Task(task) => Some(task.clone()),
            _ => None,
        })
        .collect()
}
