//! Which node has which session, and until when it counts as alive. Lives in memory: after a restart of the manager
//! nodes find their session unknown and open a new one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngCore as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_types::TaskId;

/// One session of a node.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) node_id: String,
    /// Cancelled when the session is replaced, expires, or its node is removed.
    pub(crate) ended: CancellationToken,
    /// When it was last heard of.
    heard: watch::Sender<Instant>,
    /// Open streams of this session. Without one the node, or the way to it, broke.
    streams: watch::Sender<usize>,
}

/// One open stream of a session.
pub(crate) struct OpenStream(Arc<Session>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.send_modify(|open| *open -= 1);
    }
}

impl Session {
    /// The node gave a sign of life.
    pub(crate) fn beat(&self) {
        self.heard.send_replace(Instant::now());
    }

    /// When it gave the last one.
    pub(crate) fn heard(&self) -> Instant {
        *self.heard.borrow()
    }

    /// Counts a stream as open until the result goes.
    pub(crate) fn open(self: &Arc<Self>) -> OpenStream {
        self.streams.send_modify(|open| *open += 1);
        OpenStream(Arc::clone(self))
    }

    pub(crate) fn is_broken(&self) -> bool {
        *self.streams.borrow() == 0
    }

    /// Waits until no stream is open.
    pub(crate) async fn broken(&self) {
        // The sender lives as long as the session.
        let _ = self.streams.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// A call without a session that we know. The node opens a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("node not registered")]
    NotRegistered,
    #[error("session invalid")]
    Invalid,
    #[error("node {0} exceeded rate limit count of registrations")]
    RateLimit(String),
}

/// All sessions.
pub(crate) struct Sessions {
    nodes: Mutex<HashMap<String, Entry>>,
    limit: RateLimit,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct RateLimit {
    pub(crate) count: u32,
    pub(crate) period: Duration,
}

#[derive(Default)]
struct Entry {
    session: Option<Arc<Session>>,
    registrations: VecDeque<Instant>,
}

impl Sessions {
    pub(crate) fn new(count: u32, period: Duration) -> Self {
        Self { nodes: Mutex::default(), limit: RateLimit { count, period } }
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session; the one before ends.
    pub(crate) fn register(&self, node_id: &str) -> Result<Arc<Session>, SessionError> {
        let now = Instant::now();
        let mut nodes = self.nodes();
        let entry = nodes.entry(node_id.to_owned()).or_default();
        while entry.registrations.front().is_some_and(|at| now.duration_since(*at) >= self.limit.period) {
            entry.registrations.pop_front();
        }
        if entry.registrations.len() >= self.limit.count as usize {
            return Err(SessionError::RateLimit(node_id.to_owned()));
        }
        entry.registrations.push_back(now);
        let session = Arc::new(Session {
            // The form of all of SwarmKit's ids.
            id: TaskId::random(&mut rand::rng()).to_string(),
            node_id: node_id.to_owned(),
            ended: CancellationToken::new(),
            heard: watch::channel(now).0,
            streams: watch::channel(0).0,
        });
        if let Some(before) = entry.session.replace(Arc::clone(&session)) {
            before.ended.cancel();
        }
        Ok(session)
    }

    /// The session of a call.
    pub(crate) fn check(&self, node_id: &str, session_id: &str) -> Result<Arc<Session>, SessionError> {
        let nodes = self.nodes();
        let session = nodes.get(node_id).and_then(|entry| entry.session.as_ref());
        match session {
            None => Err(SessionError::NotRegistered),
            Some(session) if session.id == session_id => Ok(Arc::clone(session)),
            Some(_) => Err(SessionError::Invalid),
        }
    }

    /// The session of a node.
    pub(crate) fn current(&self, node_id: &str) -> Option<Arc<Session>> {
        self.nodes().get(node_id)?.session.clone()
    }

    pub(crate) fn is_registered(&self, node_id: &str) -> bool {
        self.nodes().get(node_id).is_some_and(|entry| entry.session.is_some())
    }

    /// Ends this session if it still is its node's. False if another took its place.
    pub(crate) fn end(&self, session: &Session) -> bool {
        session.ended.cancel();
        let mut nodes = self.nodes();
        let Some(entry) = nodes.get_mut(&session.node_id) else { return false };
        let current = entry.session.as_ref().is_some_and(|current| current.id == session.id);
        if current {
            entry.session = None;
        }
        current
    }

    /// Ends all: the nodes look for the manager that leads now.
    pub(crate) fn end_all(&self) {
        for session in self.nodes().drain().filter_map(|(_, entry)| entry.session) {
            session.ended.cancel();
        }
    }

    /// Forgets a removed node.
    pub(crate) fn remove(&self, node_id: &str) {
        if let Some(session) = self.nodes().remove(node_id).and_then(|entry| entry.session) {
            session.ended.cancel();
        }
    }
}

/// A number in `0.0..1.0`.
pub(crate) fn random_fraction() -> f64 {
    f64::from(rand::rng().next_u32()) / (f64::from(u32::MAX) + 1.0)
}
