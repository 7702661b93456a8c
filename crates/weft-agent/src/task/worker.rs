//! Drives the machines of all service tasks: wishes in, steps of the runtime out, statuses to the core.
//!
//! Level-triggered: after each change of the assignments every machine is told its present wish. Each step runs in a
//! task of its own, so that tasks do not wait for each other; a machine has at most one step under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use weft_wire::swarmkit::Task;

use super::machine::Machine;
use super::runtime::{Adopted, ContainerEvent, NodeFacts, TaskRuntime, Work};
use super::words::{Effect, Found, Input};
use crate::core::Core;
use crate::handover::{self, Turn};

struct Entry {
    task: Arc<Task>,
    dependencies: bool,
    gone: bool,
    machine: Machine,
    /// Ends the wait of a preparation.
    cancel: Option<oneshot::Sender<()>>,
    watched: bool,
}

/// The driver of all tasks.
pub(crate) struct Worker {
    core: Arc<Core>,
    runtime: Arc<dyn TaskRuntime>,
    node: Arc<NodeFacts>,
    entries: BTreeMap<String, Entry>,
    /// Containers of tasks that are not assigned, as far as known.
    leftovers: BTreeMap<String, Adopted>,
    /// Inputs for tasks by their ids.
    sender: mpsc::UnboundedSender<(String, Input)>,
    inputs: mpsc::UnboundedReceiver<(String, Input)>,
}

impl Worker {
    /// Looks for containers of an earlier run. From here on their networks can be asked for.
    pub(crate) async fn open(core: Arc<Core>, runtime: Arc<dyn TaskRuntime>, node: Arc<NodeFacts>) -> Self {
        let leftovers: BTreeMap<String, Adopted> =
            runtime.found().await.into_iter().map(|found| (found.task_id.clone(), found)).collect();
        for found in leftovers.values() {
            core.bind_container(&found.container_id, &found.task_id);
        }
        let (sender, inputs) = mpsc::unbounded_channel();
        Self { core, runtime, node, entries: BTreeMap::new(), leftovers, sender, inputs }
    }

    /// Begins with what is known from before. To be called before the managers are told anything: what runs takes
    /// traffic still.
    pub(crate) fn resume(&mut self) {
        self.follow_assignments();
    }

    /// Works until the agent stops.
    pub(crate) async fn run(mut self) {
        let mut changed = self.core.tasks_changed();
        loop {
            self.follow_assignments();
            tokio::select! {
                outcome = changed.changed() => if outcome.is_err() { return },
                () = self.hear() => {}
            }
        }
    }

    /// Takes inputs in until the assignments are to be looked at again.
    async fn hear(&mut self) {
        while let Some((id, input)) = self.inputs.recv().await {
            self.on_input(&id, input);
        }
    }

    fn follow_assignments(&mut self) {
        let assigned = self.core.service_tasks();
        let ids: BTreeSet<&str> = assigned.iter().map(|(task, _)| task.id.as_str()).collect();
        let gone = self.entries.iter().filter(|(id, entry)| !entry.gone && !ids.contains(id.as_str()));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for (task, dependencies) in &assigned {
            if !self.entries.contains_key(&task.id) {
                self.begin(task);
            }
            let Some(entry) = self.entries.get_mut(&task.id) else { continue };
            let same = Arc::ptr_eq(&entry.task, task) && entry.dependencies == *dependencies && !entry.gone;
            if !same {
                (entry.task, entry.dependencies, entry.gone) = (task.clone(), *dependencies, false);
                let input = Input::Assigned { desired: task.desired_state(), dependencies: *dependencies };
                self.on_input(&task.id.clone(), input);
            }
        }
        for id in gone {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.gone = true;
            }
            self.on_input(&id, Input::Gone);
        }
        if self.core.knows_assignments() {
            self.remove_leftovers();
        }
    }

    /// A task is new here, or known from before.
    fn begin(&mut self, task: &Arc<Task>) {
        let found = self.leftovers.remove(&task.id);
        let status = self.core.known_status(&task.id);
        let runs = found.as_ref().filter(|found| matches!(found.found, Found::Running(..)));
        let watched = runs.map(|found| found.container_id.clone());
        let machine = match (&status, found) {
            (None, None) => Machine::new(),
            (status, found) => {
                let found = found.map(|found| (found.container_id, found.found));
                Machine::restored(status.as_ref(), found)
            }
        };
        let machine = machine.reachable(handover::is_reachable(task));
        let entry = Entry {
            // Another than the assigned one: it has not been told its wish yet.
            task: Arc::default(),
            dependencies: false,
            gone: false,
            machine,
            cancel: None,
            watched: false,
        };
        self.entries.insert(task.id.clone(), entry);
        if let Some(container) = watched {
            self.watch(&task.id, &container);
        }
    }

    /// Containers of tasks that the managers do not know (any more).
    fn remove_leftovers(&mut self) {
        for (task, found) in std::mem::take(&mut self.leftovers) {
            tracing::info!(task, container = %found.container_id, "removing the container of an unknown task");
            let (core, runtime) = (self.core.clone(), self.runtime.clone());
            tokio::spawn(async move {
                match runtime.remove(&task, &found.container_id).await {
                    Ok(()) => core.release_container(&found.container_id),
                    Err(error) => tracing::warn!(task, %error, "a container is left behind"),
                }
            });
        }
    }

    fn on_input(&mut self, id: &str, input: Input) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Input::Prepared(Ok(container)) = &input {
            self.core.bind_container(container, id);
        }
        if matches!(input, Input::Exited(_)) {
            self.runtime.release(id);
        }
        let mut effects = Vec::new();
        entry.machine.on(SystemTime::now(), input, &mut effects);
        self.core.set_serving(id, entry.machine.is_serving());
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: &str, effect: Effect) {
        match effect {
            Effect::Prepare => self.prepare(id),
            Effect::CancelPrepare => {
                if let Some(cancel) = self.entries.get_mut(id).and_then(|entry| entry.cancel.take()) {
                    let _ = cancel.send(());
                }
            }
            Effect::Start => self.start(id),
            Effect::Settle => self.hand_over(id, Turn::Settle),
            Effect::Leave => self.hand_over(id, Turn::Drain),
            Effect::Stop => self.stop(id),
            Effect::Remove => self.remove(id),
            Effect::Report(status) => {
                tracing::info!(task = id, state = ?status.state(), err = %status.err, "task changed state");
                self.core.set_task_status(id, status);
            }
            Effect::Wake(at) => {
                let wait = at.duration_since(SystemTime::now()).unwrap_or_default();
                self.step(id, async move {
                    tokio::time::sleep(wait).await;
                    Input::Tick
                });
            }
            Effect::Forget => {
                self.entries.remove(id);
            }
        }
    }

    /// Runs a step; its outcome comes back as an input.
    fn step(&self, id: &str, step: impl Future<Output = Input> + Send + 'static) {
        let (id, inputs) = (id.to_owned(), self.sender.clone());
        tokio::spawn(async move {
            let begin = Instant::now();
            let input = step.await;
            tracing::debug!(task = id, step = input.name(), elapsed = ?begin.elapsed(), "step done");
            let _ = inputs.send((id, input));
        });
    }

    fn work(&self, entry: &Entry) -> Work {
        Work {
            task: entry.task.clone(),
            node: self.node.clone(),
            dependencies: self.core.dependencies(&entry.task).unwrap_or_default(),
        }
    }

    fn prepare(&mut self, id: &str) {
        let Some(entry) = self.entries.get(id) else { return };
        let (work, runtime) = (self.work(entry), self.runtime.clone());
        let (cancel, cancelled) = oneshot::channel();
        self.step(id, async move {
            Input::Prepared(runtime.prepare(&work, cancelled).await.map_err(|error| error.to_string()))
        });
        if let Some(entry) = self.entries.get_mut(id) {
            entry.cancel = Some(cancel);
        }
    }

    fn start(&mut self, id: &str) {
        let Some(entry) = self.entries.get(id) else { return };
        let (work, runtime) = (self.work(entry), self.runtime.clone());
        let container = entry.machine.container_id().to_owned();
        // Before the start, so that no end is missed.
        self.watch(id, &container);
        self.step(id, async move { Input::Started(runtime.start(&work, &container).await) });
    }

    fn hand_over(&self, id: &str, turn: Turn) {
        let Some(entry) = self.entries.get(id) else { return };
        let (task, core) = (entry.task.clone(), self.core.clone());
        self.step(id, async move {
            handover::wait(&core, turn, &task).await;
            match turn {
                Turn::Settle => Input::Settled,
                Turn::Drain => Input::Left,
            }
        });
    }

    fn stop(&self, id: &str) {
        let Some(entry) = self.entries.get(id) else { return };
        let (task, runtime) = (entry.task.clone(), self.runtime.clone());
        let container = entry.machine.container_id().to_owned();
        self.step(id, async move {
            let stopped = runtime.stop(&task, &container).await;
            if let Err(error) = &stopped {
                tracing::warn!(task = %task.id, %error, "a task's container could not be stopped");
            }
            Input::Stopped(stopped.map_err(|error| error.to_string()))
        });
    }

    fn remove(&self, id: &str) {
        let Some(entry) = self.entries.get(id) else { return };
        let (task, core, runtime) = (id.to_owned(), self.core.clone(), self.runtime.clone());
        let container = entry.machine.container_id().to_owned();
        self.step(id, async move {
            let removed = runtime.remove(&task, &container).await;
            match &removed {
                Ok(()) => core.release_container(&container),
                Err(error) => tracing::warn!(task, %error, "a task's container could not be removed"),
            }
            Input::Removed(removed.map_err(|error| error.to_string()))
        });
    }

    /// Passes on what happens to a container until it has ended.
    fn watch(&mut self, id: &str, container: &str) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if std::mem::replace(&mut entry.watched, true) {
            return;
        }
        let mut events = self.runtime.watch(container);
        let (id, inputs) = (id.to_owned(), self.sender.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let input = match event {
                    ContainerEvent::Exited(exit) => Input::Exited(exit),
                    ContainerEvent::Health(healthy) => Input::Health(healthy),
                };
                if inputs.send((id.clone(), input)).is_err() {
                    return;
                }
            }
        });
    }
}
