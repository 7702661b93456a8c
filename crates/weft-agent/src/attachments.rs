//! Addresses on swarm networks for standalone containers: asked for, waited for, given back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status};
use weft_engine::Engine;
use weft_network::Controller;
use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::resource_allocator_client::ResourceAllocatorClient;
use weft_wire::swarmkit::{AttachNetworkRequest, DetachNetworkRequest, NetworkAttachmentConfig, Task};

use crate::core::{Core, OpenSession};

/// All of an attachment, as with dockerd.
const ATTACH_DEADLINE: Duration = Duration::from_secs(20);
/// So long managers may take to be found. Then a place that they gave before is as good, if there is one.
const SESSION_WAIT: Duration = Duration::from_secs(3);
/// Giving one back.
const DETACH_DEADLINE: Duration = Duration::from_secs(5);

/// Why a container got no attachment. Nothing is left behind: what was granted too late is given back.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The manager refused; in the words of Docker's daemon.
    #[error("Could not attach to network {network}: rpc error: code = {:?} desc = {}", status.code(), status.message())]
    Refused {
        /// Name or id that was asked for.
        network: String,
        /// The manager's answer.
        status: Status,
    },
    /// No manager answered, or none gave an address, in time.
    #[error("Could not attach to network {network}: context deadline exceeded")]
    Timeout {
        /// Name or id that was asked for.
        network: String,
    },
}

impl AttachError {
    /// Why, without naming the network.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Refused { status, .. } => {
                format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
            }
            Self::Timeout { .. } => "context deadline exceeded".to_owned(),
        }
    }
}

impl Classified for AttachError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { status, .. } => match status.code() {
                Code::NotFound => ErrorKind::NotFound,
                Code::PermissionDenied => ErrorKind::Forbidden,
                Code::InvalidArgument => ErrorKind::InvalidParameter,
                _ => ErrorKind::System,
            },
            Self::Timeout { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Marks `container` as waiting for as long as it lives, so that what it is given is not taken for an orphan.
struct Waiting<'a> {
    core: &'a Core,
    container: &'a str,
}

impl<'a> Waiting<'a> {
    fn new(core: &'a Core, container: &'a str) -> Self {
        core.begin_attaching(container);
        Self { core, container }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.core.end_attaching(self.container);
    }
}

/// A granted attachment, given back unless it is taken.
struct Granted {
    core: Arc<Core>,
    id: Option<String>,
}

impl Granted {
    fn take(mut self) {
        self.id = None;
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let core = self.core.clone();
            tokio::spawn(async move { detach(&core, &id).await });
        }
    }
}

/// Gets addresses for `container` on the network `target` (name or id). The answer is the task that carries them.
pub(crate) async fn attach(
    core: &Arc<Core>,
    target: &str,
    container: &str,
    addresses: Vec<String>,
) -> Result<Task, AttachError> {
    let _waiting = Waiting::new(core, container);
    let work = async {
        let session = match timeout(SESSION_WAIT, open_session(core)).await {
            Ok(session) => session,
            Err(_) => match core.take_again(target, container, &addresses) {
                Some(task) => {
                    tracing::info!(task = %task.id, %container, "no manager answers: the place from before is taken");
                    return Ok(task);
                }
                None => open_session(core).await,
            },
        };
        let config = NetworkAttachmentConfig { target: target.to_owned(), addresses, ..Default::default() };
        let request = AttachNetworkRequest { config: Some(config), container_id: container.to_owned() };
        let mut tasks_changed = core.tasks_changed();
        let id = ResourceAllocatorClient::new(session.channel)
            .attach_network(request)
            .await
            .map_err(|status| AttachError::Refused { network: target.to_owned(), status })?
            .into_inner()
            .attachment_id;
        let granted = Granted { core: core.clone(), id: Some(id.clone()) };
        let task = loop {
            if let Some(task) = core.granted(&id) {
                break task;
            }
            if tasks_changed.changed().await.is_err() {
                return Err(AttachError::Timeout { network: target.to_owned() });
            }
        };
        core.set_connected(&id, true);
        granted.take();
        Ok(task)
    };
    timeout(ATTACH_DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(AttachError::Timeout { network: target.to_owned() }))
}

/// Gives attachment `id` back. If no manager hears it now, the next session finds it orphaned and tells them.
pub(crate) async fn detach(core: &Core, id: &str) {
    core.set_connected(id, false);
    let session = core.session().borrow().clone();
    if let Some(session) = session {
        tell_detached(&session, id).await;
    }
}

/// Gives back what a crash of this daemon, or a manager that was away, left attached.
pub(crate) async fn return_orphans(core: &Core, session: &OpenSession) {
    for id in core.orphaned_attachments() {
        tracing::info!(task = %id, "giving back an attachment that no container uses");
        tell_detached(session, &id).await;
    }
}

/// Disconnects containers whose attachment the managers took away: somebody else may get the address next.
pub(crate) async fn disconnect_withdrawn(core: Arc<Core>, controller: Arc<Controller>, engine: Arc<Engine>) {
    loop {
        for id in core.withdrawn().await {
            let endpoints = controller.local_endpoints().borrow().clone();
            let Some(endpoint) = endpoints.into_iter().find(|e| e.attachment.as_str() == id) else {
                continue;
            };
            let (container, network) = (endpoint.container, endpoint.network.to_string());
            tracing::warn!(task = %id, %container, %network, "the managers took an attachment away");
            if let Err(error) = engine.withdraw(&container, &network).await {
                tracing::warn!(task = %id, %container, %network, %error, "a container could not be disconnected");
            }
        }
    }
}

async fn tell_detached(session: &OpenSession, id: &str) {
    let request = DetachNetworkRequest { attachment_id: id.to_owned() };
    let mut client = ResourceAllocatorClient::new(session.channel.clone());
    match timeout(DETACH_DEADLINE, client.detach_network(request)).await {
        Ok(Ok(_)) => {}
        // It is gone already.
        Ok(Err(status)) if status.code() == Code::NotFound => {}
        Ok(Err(status)) => tracing::warn!(task = %id, %status, "an attachment could not be given back"),
        Err(_) => tracing::warn!(task = %id, "an attachment could not be given back in time"),
    }
}

/// The session that is open, or the next one.
async fn open_session(core: &Core) -> OpenSession {
    let mut sessions = core.session();
    loop {
        if let Some(session) = sessions.borrow_and_update().clone() {
            return session;
        }
        if sessions.changed().await.is_err() {
            // The agent stops; the deadline of the caller ends the wait.
            std::future::pending::<()>().await;
        }
    }
}
