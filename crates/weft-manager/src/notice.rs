//! What users shall hear of that changes nothing in the store.

use std::sync::Arc;

use tokio::sync::broadcast;
use weft_wire::swarmkit::{Node, Service};

use crate::network_state::Turn;

/// Notices that a slow listener may lag behind before it loses some.
const BACKLOG: usize = 256;

/// Something worth an event.
#[derive(Debug, Clone)]
pub enum Notice {
    /// See there.
    Unacknowledged(Unacknowledged),
}

/// A ready node did not acknowledge in time that tasks begin or end; they went on without it.
#[derive(Debug, Clone)]
pub struct Unacknowledged {
    /// Who.
    pub node: Arc<Node>,
    /// The services of the tasks.
    pub services: Vec<Arc<Service>>,
    /// Ids of the tasks.
    pub tasks: Vec<String>,
    /// What they do.
    pub turn: Turn,
    /// The node's own word on why it cannot follow; empty: it was silent.
    pub error: String,
}

/// To all who listen on this manager.
pub(crate) struct Notices(broadcast::Sender<Notice>);

impl Default for Notices {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Notices {
    pub(crate) fn tell(&self, notice: Notice) {
        // Nobody listening is fine.
        let _ = self.0.send(notice);
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<Notice> {
        self.0.subscribe()
    }
}
