//! What the handlers share.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use weft_engine::Engine;

use crate::event_hub::EventHub;
use crate::network_backend::NetworkBackend;
use crate::swarm_backend::SwarmBackend;

/// What the daemon says about itself.
#[derive(Debug, Clone, Default)]
pub struct SystemSettings {
    /// A UUID that stays the same over restarts.
    pub daemon_id: String,
    /// Version of this program.
    pub version: String,
    /// Host name.
    pub hostname: String,
    /// Where images and containers live.
    pub data_root: PathBuf,
    /// Whether debug logging is on.
    pub debug: bool,
    /// Whether containers outlive the daemon.
    pub live_restore: bool,
    /// Daemon labels, `key=value`.
    pub labels: Vec<String>,
    /// Pools of local networks with the prefix length of their subnets; empty means the defaults.
    pub address_pools: Vec<(IpNet, u8)>,
    /// Key-value store that this host shares with others, as users gave it.
    pub cluster_store: Option<String>,
    /// Where those others find this host, `address:port`.
    pub cluster_advertise: Option<String>,
    /// What users should know, one line each.
    pub warnings: Vec<String>,
}

/// Everything behind the API. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// Containers and images.
    pub engine: Arc<Engine>,
    /// Networks of this host.
    pub networks: Arc<dyn NetworkBackend>,
    /// The swarm.
    pub swarm: Arc<dyn SwarmBackend>,
    /// The daemon itself.
    pub system: Arc<SystemSettings>,
    pub(crate) events: EventHub,
}

impl ApiState {
    /// Starts to record events; must be called within a runtime.
    pub fn new(
        engine: Arc<Engine>,
        networks: Arc<dyn NetworkBackend>,
        swarm: Arc<dyn SwarmBackend>,
        system: SystemSettings,
    ) -> Self {
        let events = EventHub::new();
        events.follow_engine(engine.events());
        events.follow_networks(networks.events());
        events.follow_swarm(Arc::clone(&swarm).changes());
        Self { engine, networks, swarm, system: Arc::new(system), events }
    }
}
