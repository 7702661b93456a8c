//! The Docker Engine API, version 1.51 down to 1.24: routes, JSON shapes, version gates, hijacked streams.
//!
//! One request goes `server` (connection) → `router` (version prefix, gate, common headers, dispatch) → a handler in
//! the module of its route family → the engine, the networks or the swarm. Handlers return `Result<_, ApiError>`;
//! only `error.rs` knows the HTTP statuses of failures.
//!
//! What is behind the API is asked through [`NetworkBackend`] and [`SwarmBackend`], which belong to this crate, and
//! through the engine itself.

mod containers;
mod controller_backend;
mod convert;
mod distribution;
mod error;
mod event_hub;
mod exec;
mod filters;
mod frames;
mod go_json;
#[cfg(test)]
mod golden_services_test;
#[cfg(test)]
mod golden_test;
mod hijack;
mod images;
mod lent;
mod metrics;
mod network_backend;
mod networks;
mod nodes;
mod plugins;
mod query;
mod request;
mod response;
mod router;
mod server;
mod services;
mod state;
mod stored;
mod swarm;
mod swarm_backend;
mod swarm_events;
mod system;
mod tasks;
mod version;
mod volumes;
mod websocket;

pub use network_backend::{
    Attachment, EncryptedPath, LocalEndpoint, LocalNetwork, NetworkBackend, NetworkEvent, NetworkFigures,
    NetworkScope, NetworkService, Peer, Subnet,
};
pub use server::{Listener, Server};
pub use state::{ApiState, SystemSettings};
pub use swarm_backend::{
    InitRequest, JoinRequest, LocalNodeState, RemoteManager, Rotate, ServiceStatus, SwarmBackend,
    SwarmChange, SwarmChanges, SwarmError, SwarmLogs, SwarmNews, SwarmObject, SwarmResult, SwarmStatus,
    Unacknowledged,
};
