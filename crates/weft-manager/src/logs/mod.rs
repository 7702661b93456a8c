//! Output of tasks: who wants it, which nodes have it, and the way from one to the other.
//!
//! ```text
//! subscriber --selector--> broker --subscription--> nodes of the tasks --messages--> broker --> subscriber
//! ```
//!
//! Invariants: a node is told only of subscriptions that concern tasks of its own, and speaks only for itself; a
//! subscription that does not follow ends once each of its nodes has said that it is done, is gone, or was never
//! there. Lives in memory on the leader: when the leadership ends, subscriptions end with an error.

mod subscription;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use weft_types::TaskId;
use weft_wire::swarmkit::{LogMessage, LogSelector, LogSubscriptionOptions, SubscriptionMessage};

use crate::store::{Store, View};
pub(crate) use subscription::Subscription;

/// All subscriptions and the nodes that listen for them.
#[derive(Default)]
pub(crate) struct LogBroker {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    subscriptions: HashMap<String, Arc<Subscription>>,
    listeners: HashMap<String, Listener>,
    last_listener: u64,
}

struct Listener {
    /// Tells a node's old stream from its new one.
    number: u64,
    sender: mpsc::UnboundedSender<SubscriptionMessage>,
}

/// What a subscriber reads; the subscription ends when this goes.
pub(crate) struct Reading {
    broker: Arc<LogBroker>,
    subscription: Arc<Subscription>,
    messages: mpsc::Receiver<Vec<LogMessage>>,
}

/// What a node hears; it no longer counts as listening when this goes.
pub(crate) struct Listening {
    broker: Arc<LogBroker>,
    node_id: String,
    number: u64,
    messages: mpsc::UnboundedReceiver<SubscriptionMessage>,
}

impl LogBroker {
    /// Asks the nodes of these tasks for their output.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        store: &Store,
        selector: LogSelector,
        options: LogSubscriptionOptions,
    ) -> Reading {
        let follow = options.follow;
        let message = SubscriptionMessage {
            id: TaskId::random(&mut rand::rng()).to_string(),
            selector: Some(selector),
            options: Some(options),
            close: false,
        };
        let commits = store.watch();
        let (subscription, messages) = Subscription::new(message);
        let subscription = Arc::new(subscription);
        self.inner().subscriptions.insert(subscription.id().to_owned(), Arc::clone(&subscription));
        self.extend(&subscription, &store.view());
        subscription.finish_if_done();
        if follow {
            tokio::spawn(follow_tasks(Arc::downgrade(self), Arc::downgrade(&subscription), commits));
        }
        Reading { broker: Arc::clone(self), subscription, messages }
    }

    /// A node opens its ear.
    pub(crate) fn listen(self: &Arc<Self>, node_id: &str) -> Listening {
        let (sender, messages) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        inner.last_listener += 1;
        let number = inner.last_listener;
        for subscription in inner.subscriptions.values().filter(|it| it.concerns(node_id)) {
            // The reader is here: it cannot be gone.
            let _ = sender.send(subscription.message());
        }
        inner.listeners.insert(node_id.to_owned(), Listener { number, sender });
        Listening { broker: Arc::clone(self), node_id: node_id.to_owned(), number, messages }
    }

    /// The subscription that a node publishes for.
    pub(crate) fn subscription(&self, id: &str) -> Option<Arc<Subscription>> {
        self.inner().subscriptions.get(id).cloned()
    }

    /// Tells the nodes that this subscription newly concerns.
    fn extend(&self, subscription: &Subscription, view: &View) {
        let inner = self.inner();
        for node in subscription.extend(view) {
            let told = inner
                .listeners
                .get(&node)
                .is_some_and(|listener| listener.sender.send(subscription.message()).is_ok());
            if !told {
                subscription.done(&node, Some(format!("node {node} is not available")));
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// New tasks join a subscription that follows.
async fn follow_tasks(
    broker: std::sync::Weak<LogBroker>,
    subscription: std::sync::Weak<Subscription>,
    mut commits: tokio::sync::broadcast::Receiver<Arc<crate::store::Commit>>,
) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        let commit = commits.recv().await;
        let (Some(broker), Some(subscription)) = (broker.upgrade(), subscription.upgrade()) else { return };
        match commit {
            Ok(commit) => {
                let tasks = commit.changes.iter().filter_map(|change| match &change.after {
                    Some(crate::store::Object::Task(task)) => Some(task.as_ref()),
                    _ => None,
                });
                let inner = broker.inner();
                for node in tasks.filter_map(|task| subscription.add(task)) {
                    // One that does not listen now hears of it when it does.
                    if let Some(listener) = inner.listeners.get(&node) {
                        let _ = listener.sender.send(subscription.message());
                    }
                }
            }
            // Only tasks that came in between are missed, and those are found when they change next.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

impl Reading {
    /// The next messages; an error once, as the last, if some output could not be had.
    pub(crate) async fn next(&mut self) -> Option<Result<Vec<LogMessage>, String>> {
        match self.messages.recv().await {
            Some(messages) => Some(Ok(messages)),
            None => self.subscription.take_failure().map(Err),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let id = self.subscription.id();
        let mut inner = self.broker.inner();
        inner.subscriptions.remove(id);
        for node in self.subscription.told() {
            if let Some(listener) = inner.listeners.get(&node) {
                let _ =
                    listener.sender.send(SubscriptionMessage { close: true, ..self.subscription.message() });
            }
        }
    }
}

impl Listening {
    pub(crate) async fn next(&mut self) -> Option<SubscriptionMessage> {
        self.messages.recv().await
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut inner = self.broker.inner();
        if inner.listeners.get(&self.node_id).is_some_and(|listener| listener.number == self.number) {
            inner.listeners.remove(&self.node_id);
            for subscription in inner.subscriptions.values().filter(|it| it.concerns(&self.node_id)) {
                let reason = format!("node {} disconnected unexpectedly", self.node_id);
                subscription.done(&self.node_id, Some(reason));
            }
        }
    }
}
