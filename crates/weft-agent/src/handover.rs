//! Tasks that begin or cease to take traffic wait here until all nodes know.
//!
//! ```text
//! machine: Settle | Leave -> report (serving or not) answered -> Settle | Drain asked, many tasks at once -> answered
//! ```
//! Invariants: nothing is asked before the managers have what it is about; whoever waits goes on after its limit,
//! whatever the managers do. A session that ends gives the wait back: it is asked again over the next one.
//! Docker's managers have no such word: their nodes learn from gossip, for which Docker waits a fixed time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};
use weft_wire::swarmkit::Task;
use weft_wire::weft_v1::network_state_client::NetworkStateClient;
use weft_wire::weft_v1::{HandoverRequest, HandoverResponse};

use crate::core::Core;
use crate::error::SessionError;

/// How long nodes that do not answer hold a task up, unless said otherwise.
pub(crate) const DEFAULT_LIMIT: Duration = Duration::from_secs(5);
/// The managers allow no more.
const MAX_LIMIT: Duration = Duration::from_secs(60);
/// The managers keep the limit; this is for when they do not answer.
const GRACE: Duration = Duration::from_millis(500);
/// What Docker's nodes wait for gossip to spread (moby `defaultGossipConvergeDelay`).
const GOSSIP_TIME: Duration = Duration::from_secs(2);
/// Label of a service that says how long nodes may hold up its tasks, as Go writes durations.
const LIMIT_LABEL: &str = "weft.drain.timeout";
/// The driver of networks that reach across nodes.
const OVERLAY: &str = "overlay";

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// That traffic finds it.
    Settle,
    /// That nothing new comes.
    Drain,
}

/// What the managers have been told of this node's tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Tasks that take traffic.
    pub(crate) serving: BTreeSet<String>,
    /// Tasks with endpoints.
    pub(crate) present: BTreeSet<String>,
}

impl Told {
    /// Whether the managers have what this turn of a task is about.
    fn has(&self, turn: Turn, task: &str) -> bool {
        match turn {
            Turn::Settle => self.serving.contains(task) && self.present.contains(task),
            Turn::Drain => !self.serving.contains(task),
        }
    }
}

/// One task that waits.
#[derive(Debug)]
struct Waiting {
    task: String,
    turn: Turn,
    limit: Duration,
    answer: oneshot::Sender<()>,
}

/// Tasks that are asked about together.
#[derive(Debug)]
struct Batch {
    turn: Turn,
    limit: Duration,
    waiting: Vec<Waiting>,
}

/// All that wait and have not been asked about.
pub(crate) struct Handovers {
    limit: Duration,
    queue: Mutex<Vec<Waiting>>,
    asked: Notify,
}

impl Handovers {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit: limit.min(MAX_LIMIT), queue: Mutex::default(), asked: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, turn: Turn, task: &str, limit: Duration) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        self.queue().push(Waiting { task: task.to_owned(), turn, limit, answer });
        self.asked.notify_one();
        answered
    }

    /// What can be asked now. Whoever gave up waiting is dropped.
    fn take(&self, is_ready: impl Fn(Turn, &str) -> bool) -> Vec<Batch> {
        let mut queue = self.queue();
        queue.retain(|waiting| !waiting.answer.is_closed());
        let (ready, later) = queue.drain(..).partition(|it: &Waiting| is_ready(it.turn, &it.task));
        *queue = later;
        in_batches(ready)
    }
}

fn in_batches(waiting: Vec<Waiting>) -> Vec<Batch> {
    let mut batches: BTreeMap<(Turn, Duration), Vec<Waiting>> = BTreeMap::new();
    for one in waiting {
        batches.entry((one.turn, one.limit)).or_default().push(one);
    }
    let batch = |((turn, limit), waiting)| Batch { turn, limit, waiting };
    batches.into_iter().map(batch).collect()
}

/// Whether others reach this task over a network: balancers may know it.
pub(crate) fn is_reachable(task: &Task) -> bool {
    task.networks.iter().any(|attachment| {
        let driver = attachment.network.as_ref().and_then(|network| network.driver_state.as_ref());
        !attachment.addresses.is_empty() && driver.is_some_and(|driver| driver.name == OVERLAY)
    })
}

/// How long nodes that do not answer hold this task up.
fn limit_of(task: &Task, default: Duration) -> Duration {
    let labels = task.service_annotations.as_ref().map(|annotations| &annotations.labels);
    let Some(text) = labels.and_then(|labels| labels.get(LIMIT_LABEL)) else { return default };
    match weft_types::parse_duration(text) {
        Some(limit) => limit.min(MAX_LIMIT),
        None => {
            tracing::warn!(task = task.id, label = LIMIT_LABEL, value = text, "not a duration such as 10s");
            default
        }
    }
}

/// Waits until all nodes know of the task's turn, at most as long as it may.
pub(crate) async fn wait(core: &Core, turn: Turn, task: &Task) {
    let limit = limit_of(task, core.handovers.limit);
    if limit.is_zero() {
        return;
    }
    let here = follows_here(core, turn, &task.id);
    let everywhere = async {
        // The answer is dropped with the session.
        while core.handovers.ask(turn, &task.id, limit).await.is_err() {}
    };
    if timeout(limit + GRACE, async { tokio::join!(here, everywhere) }).await.is_err() {
        tracing::warn!(task = task.id, ?turn, ?limit, "no manager said in time that all nodes know of it");
    }
}

/// Waits until this node itself has it.
async fn follows_here(core: &Core, turn: Turn, task: &str) {
    let mut served = core.network().served();
    // Its sender lives as long as the network.
    let _ = served.wait_for(|tasks| tasks.contains(task) == (turn == Turn::Settle)).await;
}

/// Asks the managers for whoever waits, until the session ends.
pub(crate) async fn serve(
    core: &Core,
    client: NetworkStateClient<Channel>,
    session_id: &str,
    mut told: watch::Receiver<Option<Told>>,
) -> Result<(), SessionError> {
    let mut calls = JoinSet::new();
    loop {
        let batches = {
            let told = told.borrow_and_update();
            core.handovers.take(|turn, task| told.as_ref().is_some_and(|told| told.has(turn, task)))
        };
        for batch in batches {
            calls.spawn(ask(client.clone(), session_id.to_owned(), batch));
        }
        tokio::select! {
            () = core.handovers.asked.notified() => {}
            // Its sender lives as long as the session.
            _ = told.changed() => {}
            Some(Ok(outcome)) = calls.join_next() => outcome?,
        }
    }
}

/// Managers that have no such word: what Docker's nodes do. Until the session ends.
pub(crate) async fn serve_by_gossip(core: &Core) -> Result<(), SessionError> {
    let mut waits = JoinSet::new();
    loop {
        for batch in core.handovers.take(|_, _| true) {
            waits.spawn(spread(batch));
        }
        tokio::select! {
            () = core.handovers.asked.notified() => {}
            Some(_) = waits.join_next() => {}
        }
    }
}

async fn ask(
    mut client: NetworkStateClient<Channel>,
    session_id: String,
    batch: Batch,
) -> Result<(), SessionError> {
    let task_ids: Vec<String> = batch.waiting.iter().map(|one| one.task.clone()).collect();
    let limit_ms = u32::try_from(batch.limit.as_millis()).unwrap_or(u32::MAX);
    let request = HandoverRequest { session_id, task_ids: task_ids.clone(), limit_ms };
    let answer = match batch.turn {
        Turn::Settle => client.settle(request).await,
        Turn::Drain => client.drain(request).await,
    };
    match answer {
        Ok(response) => tell_missing(batch.turn, &task_ids, &response.into_inner()),
        Err(status) if status.code() == Code::Unimplemented => {
            spread(batch).await;
            return Ok(());
        }
        // Repeating it would not help.
        Err(status) if matches!(status.code(), Code::PermissionDenied) => {
            tracing::warn!(%status, tasks = ?task_ids, turn = ?batch.turn, "the managers refused to wait for the nodes");
        }
        Err(status) => return Err(refused(batch.turn, status)),
    }
    answer_all(batch);
    Ok(())
}

fn refused(turn: Turn, status: Status) -> SessionError {
    let call = match turn {
        Turn::Settle => "Settle",
        Turn::Drain => "Drain",
    };
    SessionError::Refused { call, status }
}

fn tell_missing(turn: Turn, tasks: &[String], response: &HandoverResponse) {
    for node in &response.missing {
        tracing::warn!(
            ?turn,
            ?tasks,
            node = node.node_id,
            hostname = node.hostname,
            error = node.error,
            "a node did not acknowledge in time"
        );
    }
}

/// Gossip is given its time where tasks end; who begins is waited for by nobody.
async fn spread(batch: Batch) {
    if batch.turn == Turn::Drain {
        sleep(GOSSIP_TIME.min(batch.limit)).await;
    }
    answer_all(batch);
}

fn answer_all(batch: Batch) {
    for one in batch.waiting {
        // It may have given up.
        let _ = one.answer.send(());
    }
}

#[cfg(test)]
#[path = "handover_test.rs"]
mod tests;
