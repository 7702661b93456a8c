//! Logs of tasks for the managers: one publisher per subscription, as in SwarmKit's log broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::poll_fn;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tonic::Status;
use tonic::transport::Channel;
use weft_wire::swarmkit::log_broker_client::LogBrokerClient;
use weft_wire::swarmkit::{
    LogContext, LogMessage, LogSelector, LogSubscriptionOptions, PublishLogsMessage, SubscriptionMessage,
    Task,
};

use super::runtime::{LogLine, TaskRuntime};
use crate::core::Core;

/// Lines sent in one message at most.
const BATCH: usize = 64;
/// Messages on their way to the manager.
const DEPTH: usize = 16;

/// The subscriptions of one session. Dropping it ends their publishers.
pub(crate) struct Publishers {
    core: Arc<Core>,
    runtime: Arc<dyn TaskRuntime>,
    channel: Channel,
    running: JoinSet<()>,
    by_id: BTreeMap<String, AbortHandle>,
}

impl Publishers {
    pub(crate) fn new(core: Arc<Core>, runtime: Arc<dyn TaskRuntime>, channel: Channel) -> Self {
        Self { core, runtime, channel, running: JoinSet::new(), by_id: BTreeMap::new() }
    }

    /// A subscription begins or ends.
    pub(crate) fn on_subscription(&mut self, message: SubscriptionMessage) {
        while self.running.try_join_next().is_some() {}
        self.by_id.retain(|_, publisher| !publisher.is_finished());
        if message.close {
            if let Some(publisher) = self.by_id.remove(&message.id) {
                publisher.abort();
            }
            return;
        }
        let id = message.id.clone();
        let subscription = Subscription {
            id: message.id,
            selector: message.selector.unwrap_or_default(),
            options: message.options.unwrap_or_default(),
            core: self.core.clone(),
            runtime: self.runtime.clone(),
        };
        let channel = self.channel.clone();
        let publisher = self.running.spawn(async move {
            let id = subscription.id.clone();
            if let Err(status) = subscription.publish(channel).await {
                tracing::debug!(subscription = id, %status, "logs could not be published");
            }
        });
        self.by_id.insert(id, publisher);
    }
}

struct Subscription {
    id: String,
    selector: LogSelector,
    options: LogSubscriptionOptions,
    core: Arc<Core>,
    runtime: Arc<dyn TaskRuntime>,
}

impl Subscription {
    async fn publish(self, channel: Channel) -> Result<(), Status> {
        let (sender, mut receiver) = mpsc::channel(DEPTH);
        let call = async move {
            LogBrokerClient::new(channel)
                .publish_logs(poll_fn(move |context| receiver.poll_recv(context)))
                .await
        };
        let read = async move {
            self.read_all(&sender).await;
            // The last message says that the end is no accident.
            let last = PublishLogsMessage { subscription_id: self.id, messages: Vec::new(), close: true };
            let _ = sender.send(last).await;
        };
        let (answer, ()) = tokio::join!(call, read);
        answer.map(drop)
    }

    /// Reads the logs of all tasks that are meant, and of those to come if the subscription follows.
    async fn read_all(&self, sender: &mpsc::Sender<PublishLogsMessage>) {
        let mut changed = self.core.states_changed();
        let mut known = BTreeSet::new();
        let mut readers = JoinSet::new();
        loop {
            for (task, container) in self.core.started_tasks() {
                if self.means(&task) && known.insert(task.id.clone()) {
                    readers.spawn(self.reader(&task, container, sender.clone()));
                }
            }
            if !self.options.follow {
                break;
            }
            tokio::select! {
                outcome = changed.changed() => if outcome.is_err() { break },
                () = sender.closed() => return,
            }
        }
        while readers.join_next().await.is_some() {}
    }

    fn means(&self, task: &Task) -> bool {
        let selector = &self.selector;
        selector.task_ids.contains(&task.id)
            || selector.service_ids.contains(&task.service_id)
            || selector.node_ids.contains(&task.node_id)
    }

    fn reader(
        &self,
        task: &Task,
        container: String,
        sender: mpsc::Sender<PublishLogsMessage>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (runtime, options, id) = (self.runtime.clone(), self.options.clone(), self.id.clone());
        let context = LogContext {
            service_id: task.service_id.clone(),
            node_id: task.node_id.clone(),
            task_id: task.id.clone(),
        };
        async move {
            let mut lines = match runtime.logs(&container, &options).await {
                Ok(lines) => lines,
                Err(error) => {
                    tracing::debug!(container, %error, "a log cannot be read");
                    return;
                }
            };
            let mut batch = Vec::new();
            while lines.recv_many(&mut batch, BATCH).await > 0 {
                let messages = batch.drain(..).map(|line| message(&context, line)).collect();
                let part = PublishLogsMessage { subscription_id: id.clone(), messages, close: false };
                if sender.send(part).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn message(context: &LogContext, line: LogLine) -> LogMessage {
    LogMessage {
        context: Some(context.clone()),
        timestamp: line.time.map(Into::into),
        stream: line.stream.into(),
        data: line.data.to_vec(),
        attrs: Vec::new(),
    }
}
