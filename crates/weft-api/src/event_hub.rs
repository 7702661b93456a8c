//! What happened lately, from the engine, the networks and the API itself, in one order.
//!
//! Docker keeps its last 256 events for `since`; so do we.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use crate::network_backend::NetworkEvent;
use crate::swarm_backend::SwarmNews;
use crate::swarm_events;

/// moby `daemon/events`: `eventsLimit`.
const HISTORY: usize = 256;
/// Events a slow client may lag behind before it loses some.
const BACKLOG: usize = 1024;

/// One event in Docker's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiEvent {
    pub(crate) typ: &'static str,
    pub(crate) action: String,
    pub(crate) id: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) scope: &'static str,
    pub(crate) time: Duration,
}

impl ApiEvent {
    /// As `GET /events` writes it. `status`, `id` and `from` repeat what clients before 1.22 knew.
    pub(crate) fn to_json(&self) -> Value {
        let mut event = json!({
            "Type": self.typ,
            "Action": self.action,
            "Actor": { "ID": self.id, "Attributes": self.attributes },
            "scope": self.scope,
            "time": self.time.as_secs(),
            "timeNano": u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX),
        });
        if matches!(self.typ, "container" | "image") {
            event["status"] = self.action.clone().into();
            if !self.id.is_empty() {
                event["id"] = self.id.clone().into();
            }
        }
        if let (true, Some(image)) = (self.typ == "container", self.attributes.get("image")) {
            event["from"] = image.clone().into();
        }
        event
    }
}

#[derive(Clone)]
pub(crate) struct EventHub(Arc<Inner>);

struct Inner {
    history: Mutex<VecDeque<ApiEvent>>,
    live: broadcast::Sender<ApiEvent>,
    ending: CancellationToken,
}

impl EventHub {
    pub(crate) fn new() -> Self {
        let live = broadcast::channel(BACKLOG).0;
        Self(Arc::new(Inner { history: Mutex::default(), live, ending: CancellationToken::new() }))
    }

    fn history(&self) -> MutexGuard<'_, VecDeque<ApiEvent>> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish(&self, event: ApiEvent) {
        let mut history = self.history();
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(event.clone());
        // Sent under the lock, so that a subscriber sees each event either in the history or live. Nobody listening
        // is fine.
        let _ = self.0.live.send(event);
    }

    /// What is remembered, and everything after it.
    pub(crate) fn subscribe(&self) -> (Vec<ApiEvent>, broadcast::Receiver<ApiEvent>) {
        let history = self.history();
        (history.iter().cloned().collect(), self.0.live.subscribe())
    }

    /// Ends the streams of all who listen; the daemon stops.
    pub(crate) fn end(&self) {
        self.0.ending.cancel();
    }

    /// Resolves when the streams end.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.ending.clone().cancelled_owned()
    }

    pub(crate) fn listeners(&self) -> usize {
        self.0.live.receiver_count()
    }

    /// What Docker tells after a prune.
    pub(crate) fn publish_prune(&self, typ: &'static str, reclaimed_bytes: i64) {
        self.publish(ApiEvent {
            typ,
            action: "prune".to_owned(),
            id: String::new(),
            attributes: BTreeMap::from([("reclaimed".to_owned(), reclaimed_bytes.to_string())]),
            scope: "local",
            time: since_epoch(SystemTime::now()),
        });
    }

    pub(crate) fn follow_engine(&self, events: broadcast::Receiver<weft_engine::Event>) {
        let events = BroadcastStream::new(events).filter_map(|event| async move {
            event.inspect_err(|lost| tracing::warn!(%lost, "events of the engine were lost")).ok()
        });
        self.follow(events.map(|event| ApiEvent {
            typ: event.typ.as_str(),
            action: event.action,
            id: event.id,
            attributes: event.attributes,
            scope: "local",
            time: since_epoch(event.time),
        }));
    }

    pub(crate) fn follow_networks(&self, events: impl Stream<Item = NetworkEvent> + Send + 'static) {
        self.follow(events.map(|event| ApiEvent {
            typ: "network",
            action: event.action,
            id: event.network,
            attributes: event.attributes,
            // Also of the swarm's networks: this is their part on this node.
            scope: "local",
            time: since_epoch(event.time),
        }));
    }

    pub(crate) fn follow_swarm(&self, news: impl Stream<Item = SwarmNews> + Send + 'static) {
        self.follow(news.flat_map(|news| stream::iter(swarm_events::events(&news))));
    }

    /// Ends when the source does.
    fn follow(&self, events: impl Stream<Item = ApiEvent> + Send + 'static) {
        let hub = self.clone();
        tokio::spawn(events.for_each(move |event| {
            hub.publish(event);
            std::future::ready(())
        }));
    }
}

pub(crate) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
