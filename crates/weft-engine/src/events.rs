//! The stream of things that happened to containers and images.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::sync::broadcast;

/// How many events a slow listener may lag behind before it loses some.
const BACKLOG: usize = 4096;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// A container or an exec in it.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
}

impl EventType {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
        }
    }
}

/// One event, in Docker's terms.
#[derive(Debug, Clone)]
pub struct Event {
    /// What it is about.
    pub typ: EventType,
    /// `create`, `start`, `die`, `exec_create: sh`, …
    pub action: String,
    /// Id of the object.
    pub id: String,
    /// Name, image, labels, exit code, …
    pub attributes: BTreeMap<String, String>,
    /// When it happened.
    pub time: SystemTime,
}

/// Sends events to whoever listens.
#[derive(Debug, Clone)]
pub(crate) struct EventBus(broadcast::Sender<Event>);

impl EventBus {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    pub(crate) fn send(&self, typ: EventType, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        tracing::debug!(kind = typ.as_str(), action, id, "event");
        let event =
            Event { typ, action: action.to_owned(), id: id.to_owned(), attributes, time: SystemTime::now() };
        // Nobody listening is fine.
        let _ = self.0.send(event);
    }
}
