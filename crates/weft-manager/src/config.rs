//! What a manager is told at start, and what a swarm is told at `init`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use weft_wire::memberlist::GOSSIP_PORT;
use weft_wire::swarmkit::{ClusterSpec, NodeDescription, node_spec::Availability};

use crate::seal::KeyEncryptionKey;

/// SwarmKit's value (manager/keymanager).
const KEY_ROTATION: Duration = Duration::from_secs(12 * 60 * 60);

/// Where a manager lives and how it paces itself.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// Folder of the store's files and the data key; made if missing.
    pub state_dir: PathBuf,
    /// Address and port to serve on; Docker's default is `0.0.0.0:2377`.
    pub listen: SocketAddr,
    /// Address and port that other nodes are told; port 0 means the port really listened on.
    pub advertise: SocketAddr,
    /// Clocks and limits.
    pub timing: Timing,
    /// What wraps the data key: the swarm's unlock key where managers are locked, else empty.
    pub kek: KeyEncryptionKey,
}

impl ManagerConfig {
    /// With Docker's timing and no lock key.
    pub fn new(state_dir: impl Into<PathBuf>, listen: SocketAddr, advertise: SocketAddr) -> Self {
        Self {
            state_dir: state_dir.into(),
            listen,
            advertise,
            timing: Timing::default(),
            kek: KeyEncryptionKey::default(),
        }
    }
}

/// Clocks and limits. The defaults are SwarmKit's where not said otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Mean time between heartbeats of a node; none: as the cluster's spec says (5 s unless changed).
    pub heartbeat_period: Option<Duration>,
    /// Most that one heartbeat period deviates from the mean, as a fraction of it.
    pub heartbeat_jitter: f64,
    /// A node is down after this many periods without a heartbeat.
    pub grace_periods: u32,
    /// The same for nodes that were not heard of since this manager began to lead.
    pub grace_periods_unknown: u32,
    /// Quiet time before assignments that changed together are sent together.
    pub assignment_quiet: Duration,
    /// Most changes in one message of assignments.
    pub assignment_batch: usize,
    /// A node may register `rate_limit_count` times within this time.
    pub rate_limit_period: Duration,
    /// See `rate_limit_period`.
    pub rate_limit_count: u32,
    /// Port at which a Weft node's helper answers for it once its heartbeats stop; none: it is down then.
    pub helper_port: Option<u16>,
    /// A silent node whose helper answers is down only after this long.
    pub away_limit: Duration,
    /// Tasks of a node that has been down this long are given up and their addresses freed.
    pub orphan_after: Duration,
    /// Time between two rotations of the keys of gossip and of encrypted networks.
    pub key_rotation: Duration,
    /// How long a manager that joins waits for the leader to let it in.
    pub join_limit: Duration,
    /// Log entries between two images of the store.
    pub snapshot_interval: u64,
    /// Log entries kept below the last image for slow followers.
    pub log_entries_kept: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_period: None,
            heartbeat_jitter: 0.1,
            grace_periods: 3,
            grace_periods_unknown: 6,
            assignment_quiet: Duration::from_millis(100),
            assignment_batch: 100,
            rate_limit_period: Duration::from_secs(8),
            rate_limit_count: 3,
            helper_port: Some(GOSSIP_PORT),
            // Long enough for an upgrade of the daemon by hand.
            away_limit: Duration::from_secs(15 * 60),
            orphan_after: Duration::from_secs(24 * 60 * 60),
            key_rotation: KEY_ROTATION,
            join_limit: Duration::from_secs(60),
            // Docker takes 10,000. Our log lives in memory too until it is purged, and an image writes only what changed.
            snapshot_interval: 1000,
            log_entries_kept: 100,
        }
    }
}

/// What `swarm init` decides.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The cluster's spec; absent parts get Docker's defaults.
    pub spec: ClusterSpec,
    /// Pools that overlay subnets are cut from; empty means `10.0.0.0/8`.
    pub default_addr_pool: Vec<IpNet>,
    /// Prefix length of a subnet cut from a pool; 0 means 24.
    pub subnet_size: u32,
    /// UDP port of VXLAN; 0 means 4789.
    pub data_path_port: u16,
    /// Availability of the first node.
    pub availability: Availability,
    /// Description of the first node until its agent sends one.
    pub description: NodeDescription,
}

impl InitOptions {
    /// Docker's defaults for a node of this host name.
    pub fn new(hostname: &str) -> Self {
        Self {
            spec: ClusterSpec::default(),
            default_addr_pool: Vec::new(),
            subnet_size: 0,
            data_path_port: 0,
            availability: Availability::Active,
            description: NodeDescription { hostname: hostname.to_owned(), ..Default::default() },
        }
    }
}
