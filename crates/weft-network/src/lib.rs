//! The container network model: networks, endpoints, sandboxes, and what keeps them true in the kernel.
//!
//! ```text
//! callers --> Controller --> State --plans--> desired namespaces --weft-plan/diff--> weft-kernel
//!                 |            ^
//!                 |            +-- managers' word (set_swarm_state), gossip (events of the helper)
//!                 +-- whole state with a generation --> helper process: resolver, gossip, audit
//! ```
//!
//! Invariants: the state is changed by one caller at a time and written before the kernel is; the kernel follows from
//! the state alone, so a repeated or interrupted change ends the same; a failed change is taken back.

mod balance;
mod choice;
mod config;
mod controller;
mod encryption;
mod error;
mod etc;
mod helper;
mod ingress;
mod ipam;
mod network;
mod options;
mod overlay_engine;
mod paths;
mod peers;
mod plans;
mod ports;
mod profile;
mod resolver;
mod sandbox;
mod services;
mod spec;
mod state;
mod store;
mod sub_interface;
mod swarm;
mod view;
mod watchers;

pub use balance::BalancerChoice;
pub use config::{ControllerConfig, ENCRYPTION_PORT, HelperLaunch};
pub use controller::{AuditCounters, Controller, ForeignPlace, HandedOn};
pub use encryption::{EncryptedPath, EncryptionChoice, EncryptionReport, EncryptionScheme};
pub use error::{NetworkError, PortFailure};
pub use helper::{LeaseWish, helper_main};
pub use ipam::AddressPool;
pub use network::{BridgeSettings, DEFAULT_BRIDGE, Driver, GATEWAY_BRIDGE, Network, NetworkScope, Pool};
pub use overlay_engine::OverlayEngineChoice;
pub use profile::Profile;
pub use spec::{EndpointSpec, IpamConfig, NetworkSpec, PortWish, SandboxKind, SandboxSpec};
pub use swarm::{
    AttachRefused, GossipWord, IngressPort, LocalSwarmEndpoint, OverlaySpec, OverlaySubnet, SourceMode,
    SwarmAttachment, SwarmEndpoint, SwarmKey, SwarmMember, SwarmNetworkState, SwarmNetworks, SwarmService,
    SwarmServiceState, SwarmState,
};
pub use view::{
    EndpointOnNetwork, EndpointView, MeshDoor, NetworkEvent, NetworkEventSubject, SandboxView,
    ServiceOnNetwork,
};
