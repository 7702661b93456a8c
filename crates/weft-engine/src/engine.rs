//! The engine: the public operations on containers.

use std::sync::Arc;

use bollard_stubs::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerTopResponse, EndpointSettings,
    ExecConfig, ExecInspectResponse,
};
use tokio::sync::broadcast;

use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::events::Event;
use crate::image::Images;
use crate::network::ContainerNetwork;
use crate::options::{
    AttachOptions, AttachedStreams, Created, ExecStartOptions, Filters, ListOptions, LogOptions, LogStream,
    RemoveOptions, StopOptions, WaitCondition, WaitFuture,
};

type Result<T> = std::result::Result<T, EngineError>;

/// Local containers and images of one daemon.
pub struct Engine {}

#[allow(clippy::todo, unused_variables, reason = "surface first; bodies follow")]
impl Engine {
    /// Opens the state below the configured roots and adopts the containers that still run.
    pub async fn open(config: EngineConfig, network: Arc<dyn ContainerNetwork>) -> Result<Arc<Self>> {
        todo!()
    }
    /// The images.
    pub fn images(&self) -> &Images {
        todo!()
    }
    /// Everything that happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        todo!()
    }
    /// Creates a container.
    pub async fn create(self: &Arc<Self>, name: Option<&str>, body: ContainerCreateBody) -> Result<Created> {
        todo!()
    }
    /// Starts it. `NotModified` if it runs.
    pub async fn start(self: &Arc<Self>, term: &str) -> Result<()> {
        todo!()
    }
    /// Stops it with its grace period. `NotModified` if it does not run.
    pub async fn stop(self: &Arc<Self>, term: &str, options: StopOptions) -> Result<()> {
        todo!()
    }
    /// Stops it if it runs, then starts it.
    pub async fn restart(self: &Arc<Self>, term: &str, options: StopOptions) -> Result<()> {
        todo!()
    }
    /// Sends a signal (default KILL), `9`, `TERM` or `SIGTERM`.
    pub async fn kill(self: &Arc<Self>, term: &str, signal: Option<&str>) -> Result<()> {
        todo!()
    }
    /// Freezes all its processes.
    pub async fn pause(self: &Arc<Self>, term: &str) -> Result<()> {
        todo!()
    }
    /// Thaws them.
    pub async fn unpause(self: &Arc<Self>, term: &str) -> Result<()> {
        todo!()
    }
    /// Registers a waiter at once; the future resolves when the condition is met.
    pub fn wait(self: &Arc<Self>, term: &str, condition: WaitCondition) -> Result<WaitFuture> {
        todo!()
    }
    /// Removes it.
    pub async fn remove(self: &Arc<Self>, term: &str, options: RemoveOptions) -> Result<()> {
        todo!()
    }
    /// Gives it another name.
    pub async fn rename(self: &Arc<Self>, term: &str, new_name: &str) -> Result<()> {
        todo!()
    }
    /// Containers that match, newest first.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<ContainerSummary>> {
        todo!()
    }
    /// Everything about one container.
    pub fn inspect(&self, term: &str, size: bool) -> Result<ContainerInspectResponse> {
        todo!()
    }
    /// Full id of the container meant by an id, name or unique prefix.
    pub fn container_id(&self, term: &str) -> Result<weft_types::ContainerId> {
        todo!()
    }
    /// Sets the size of its terminal.
    pub async fn resize(&self, term: &str, height: u16, width: u16) -> Result<()> {
        todo!()
    }
    /// Attaches to its streams, also before it is started.
    pub async fn attach(self: &Arc<Self>, term: &str, options: AttachOptions) -> Result<AttachedStreams> {
        todo!()
    }
    /// Reads its log.
    pub async fn logs(&self, term: &str, options: LogOptions) -> Result<LogStream> {
        todo!()
    }
    /// Processes inside, with the columns of `ps`.
    pub async fn top(&self, term: &str, ps_args: &str) -> Result<ContainerTopResponse> {
        todo!()
    }
    /// Removes all stopped containers that match; ids and reclaimed bytes.
    pub async fn prune(self: &Arc<Self>, filters: &Filters) -> Result<(Vec<String>, i64)> {
        todo!()
    }
    /// Prepares an exec; its id.
    pub async fn exec_create(self: &Arc<Self>, term: &str, config: ExecConfig) -> Result<String> {
        todo!()
    }
    /// Starts it; `None` when detached.
    pub async fn exec_start(
        self: &Arc<Self>,
        exec_id: &str,
        options: ExecStartOptions,
    ) -> Result<Option<AttachedStreams>> {
        todo!()
    }
    /// What became of it.
    pub fn exec_inspect(&self, exec_id: &str) -> Result<ExecInspectResponse> {
        todo!()
    }
    /// Sets the size of its terminal.
    pub async fn exec_resize(&self, exec_id: &str, height: u16, width: u16) -> Result<()> {
        todo!()
    }
    /// Connects a container to a network, now if it runs, else at its next start.
    pub async fn connect_network(
        self: &Arc<Self>,
        term: &str,
        network: &str,
        settings: EndpointSettings,
    ) -> Result<()> {
        todo!()
    }
    /// Disconnects it.
    pub async fn disconnect_network(self: &Arc<Self>, term: &str, network: &str, force: bool) -> Result<()> {
        todo!()
    }
    /// The daemon stops: with live-restore containers are left, else they are stopped with their grace period.
    pub async fn shutdown(self: &Arc<Self>) {
        todo!()
    }
}
