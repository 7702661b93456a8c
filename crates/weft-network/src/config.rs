//! Settings of one controller.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use weft_plan::NamespaceRef;
use weft_types::{EndpointAddress, Mtu};

use crate::balance::BalancerChoice;
use crate::encryption::EncryptionChoice;
use crate::ipam::AddressPool;
use crate::overlay_engine::OverlayEngineChoice;
use crate::profile::Profile;

/// Where ESP in UDP is expected (RFC 3948, section 2.1).
pub const ENCRYPTION_PORT: u16 = 4500;

/// How to start this program again as the network helper.
#[derive(Debug, Clone)]
pub struct HelperLaunch {
    /// The program, an absolute path.
    pub exe: PathBuf,
    /// Arguments before the helper's own (`--dir …`); for weft `["helper"]`.
    pub args: Vec<OsString>,
}

/// Settings; the daemon fills them from its flags and `daemon.json`.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// Networks live here and survive reboots.
    pub state_dir: PathBuf,
    /// Sandboxes, namespaces and sockets; need not survive a reboot.
    pub run_dir: PathBuf,
    /// The namespace that is the host's to this daemon.
    pub host: NamespaceRef,
    /// `--default-address-pool`; empty for Docker's defaults.
    pub default_address_pools: Vec<AddressPool>,
    /// `--bip`: address and subnet of the default bridge.
    pub bip: Option<EndpointAddress>,
    /// `--fixed-cidr`: range for containers of the default bridge.
    pub fixed_cidr: Option<IpNet>,
    /// `--mtu` of the default bridge.
    pub mtu: Mtu,
    /// `--icc` of the default bridge.
    pub inter_container: bool,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-opt`.
    pub dns_options: Vec<String>,
    /// The host's resolver settings.
    pub resolv_conf: PathBuf,
    /// Address for `host-gateway` in `--add-host`; the default bridge's when absent.
    pub host_gateway: Option<std::net::IpAddr>,
    /// How to start the helper; without one there is no embedded resolver and no gossip (tests).
    pub helper: Option<HelperLaunch>,
    /// Between two audits of the kernel's state.
    pub audit_interval: Duration,
    /// What carries flows to virtual IPs.
    pub balancer: BalancerChoice,
    /// What carries overlay networks' frames.
    pub overlay_engine: OverlayEngineChoice,
    /// What the data path's interface is tuned for.
    pub profile: Profile,
    /// UDP port of ESP, the same on all nodes; none: this node takes no part in encrypted networks.
    pub encryption_port: Option<u16>,
    /// What encrypts.
    pub encryption_engine: EncryptionChoice,
    /// Queues of each encrypted network's device where the helper encrypts, and threads for each direction.
    pub encryption_queues: usize,
    /// Beside these, look at a namespace whenever the kernel tells of a change there.
    pub watch_kernel: bool,
}

impl ControllerConfig {
    /// Docker's defaults below the two folders.
    pub fn new(state_dir: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            run_dir: run_dir.into(),
            host: NamespaceRef::host(),
            default_address_pools: Vec::new(),
            bip: None,
            fixed_cidr: None,
            mtu: Mtu::ETHERNET,
            inter_container: true,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            host_gateway: None,
            helper: None,
            audit_interval: Duration::from_secs(5),
            balancer: BalancerChoice::Auto,
            overlay_engine: OverlayEngineChoice::default(),
            profile: Profile::default(),
            encryption_port: Some(ENCRYPTION_PORT),
            encryption_engine: EncryptionChoice::Auto,
            encryption_queues: encryption_queues(),
            watch_kernel: true,
        }
    }
}

/// Half of the processors, as each direction has so many; the rest is for the containers.
fn encryption_queues() -> usize {
    const MOST: usize = 4;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, MOST)
}
