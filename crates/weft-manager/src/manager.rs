//! One manager: its store, its services on the manager port, and its reconcilers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinHandle;
use weft_identity::{IdentityHandle, NodeIdentity};

use crate::config::{InitOptions, ManagerConfig};
use crate::control::Control;
use crate::error::ManagerError;

/// A running manager. Dropping it stops its tasks; [`Manager::stop`] waits for them.
pub struct Manager {
    _private: (),
}

impl Manager {
    /// Starts a swarm of one node. The identity is the caller's to store.
    pub async fn init(config: ManagerConfig, options: InitOptions) -> Result<(Arc<Self>, NodeIdentity), ManagerError> {
        let _ = (config, options);
        todo!()
    }

    /// Opens the store again after a stop or a crash.
    pub async fn open(config: ManagerConfig, identity: IdentityHandle) -> Result<Arc<Self>, ManagerError> {
        let _ = (config, identity);
        todo!()
    }

    /// Serves the manager port until [`Manager::stop`]. The port is bound when this returns.
    pub async fn serve(self: &Arc<Self>, identity: IdentityHandle) -> Result<JoinHandle<()>, ManagerError> {
        let _ = identity;
        todo!()
    }

    /// Where the manager really listens, once it serves.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// The control interface for this process.
    pub fn control(&self) -> Control {
        todo!()
    }

    /// Ends all streams, stops serving and closes the store.
    pub async fn stop(&self) {}
}
