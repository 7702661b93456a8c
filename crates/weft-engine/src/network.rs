//! What the engine asks of the network: a sandbox per container and endpoints in it.
//!
//! The trait belongs to the engine; `weft_network::Controller` implements it in `network_controller.rs`.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard_stubs::models::{EndpointSettings, PortMap};
pub use weft_network::{SandboxKind, SandboxSpec};
use weft_types::{ContainerId, ErrorKind};

/// The network refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct NetworkFailure {
    /// Docker's wording.
    pub message: String,
    /// The class of the failure.
    pub kind: ErrorKind,
}

impl weft_types::Classified for NetworkFailure {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// A sandbox that stands.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct SandboxView {
    /// Its id; empty for the host's namespace.
    pub id: String,
    /// File that pins the namespace; `None` for the host's.
    pub netns: Option<PathBuf>,
    /// File to mount at `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// File to mount at `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// File to mount at `/etc/hostname`.
    pub hostname: Option<PathBuf>,
    /// Published ports as bound.
    pub ports: PortMap,
}

/// The engine's view of the network controller.
#[async_trait::async_trait]
pub trait ContainerNetwork: Send + Sync {
    /// Makes the namespace and the files of `/etc`.
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxView, NetworkFailure>;

    /// Joins a network (name, id or id prefix) with the wished settings; the answer is complete.
    async fn connect(
        &self,
        container: &ContainerId,
        network: &str,
        settings: &EndpointSettings,
    ) -> Result<EndpointSettings, NetworkFailure>;

    /// Leaves a network.
    async fn disconnect(
        &self,
        container: &ContainerId,
        network: &str,
        force: bool,
    ) -> Result<(), NetworkFailure>;

    /// Publishes the sandbox's ports once its endpoints stand; answers what was bound.
    async fn publish(&self, container: &ContainerId) -> Result<PortMap, NetworkFailure>;

    /// The container has another name now: names of its endpoints follow. Without a sandbox there is nothing to do.
    async fn rename(&self, container: &ContainerId, name: &str) -> Result<(), NetworkFailure> {
        let _ = (container, name);
        Ok(())
    }

    /// Removes the sandbox with all its endpoints. Removing what is gone is no error.
    async fn remove_sandbox(&self, container: &ContainerId) -> Result<(), NetworkFailure>;

    /// The same for a container that the next daemon will start again: places that others hand out, such as a swarm's
    /// managers, stay its own.
    async fn suspend_sandbox(&self, container: &ContainerId) -> Result<(), NetworkFailure> {
        self.remove_sandbox(container).await
    }

    /// After a restart of the daemon: these containers live, all other sandboxes are orphans.
    async fn adopt(&self, running: &[ContainerId]) -> Result<(), NetworkFailure>;

    /// Checks endpoint wishes before a container is created; answers the id the name stands for, if known.
    fn check(&self, network: &str, settings: &EndpointSettings) -> Result<(), NetworkFailure>;

    /// The name a container's endpoint list shows for what the user called the network.
    fn display_name(&self, network: &str) -> Option<String>;

    /// Id of the network with that name.
    fn id_of(&self, network: &str) -> Option<String> {
        let _ = network;
        None
    }

    /// The current endpoints of a running container by network name.
    fn endpoints(&self, container: &ContainerId) -> HashMap<String, EndpointSettings>;
}
