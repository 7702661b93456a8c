//! What the engine asks of the network: a sandbox per container and endpoints in it.
//!
//! The trait belongs to the engine; `weft_network::Controller` implements it in `network_controller.rs`.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard_stubs::models::{EndpointSettings, PortMap};
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

/// What kind of network namespace a container wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxKind {
    /// Its own, with endpoints.
    Own,
    /// The host's.
    Host,
    /// Its own, with a loopback only.
    None,
    /// That of another container.
    Shared(ContainerId),
}

/// A request for a sandbox.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// Whose sandbox it is.
    pub container: ContainerId,
    /// Its name, without the slash.
    pub name: String,
    /// Kind of namespace.
    pub kind: SandboxKind,
    /// Host name inside.
    pub hostname: String,
    /// Domain name inside, may be empty.
    pub domainname: String,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--add-host`, `name:address`.
    pub extra_hosts: Vec<String>,
    /// Ports of the image and `--expose`, `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `-p`, as given.
    pub port_bindings: PortMap,
    /// `-P`.
    pub publish_all: bool,
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
    async fn create_sandbox(&self, request: SandboxRequest) -> Result<SandboxView, NetworkFailure>;

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

    /// Removes the sandbox with all its endpoints. Removing what is gone is no error.
    async fn remove_sandbox(&self, container: &ContainerId) -> Result<(), NetworkFailure>;

    /// After a restart of the daemon: these containers live, all other sandboxes are orphans.
    async fn adopt(&self, running: &[ContainerId]) -> Result<(), NetworkFailure>;

    /// Checks endpoint wishes before a container is created; answers the id the name stands for, if known.
    fn check(&self, network: &str, settings: &EndpointSettings) -> Result<(), NetworkFailure>;

    /// The name a container's endpoint list shows for what the user called the network.
    fn display_name(&self, network: &str) -> Option<String>;

    /// The current endpoints of a running container by network name.
    fn endpoints(&self, container: &ContainerId) -> HashMap<String, EndpointSettings>;
}
