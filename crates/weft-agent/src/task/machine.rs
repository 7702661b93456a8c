//! The life of one service task on this node, without any I/O: inputs in, effects out, the time is an argument.
//!
//! ```text
//! Assigned - Accepted - Preparing - Ready - Starting - Running - Complete | Failed
//!                  \________ error ________\ Rejected   \________ desired >= Shutdown: Leave, Stop, then Shutdown
//! ```
//!
//! A task that others reach over a network takes part in their balancers: it is Running only once these know it
//! (`Settle`, while it is still Starting), and it is told to stop only once they send nothing new to it (`Leave`). Both
//! only while its container runs and is well: one that ends by itself, or is unhealthy, is waited for by nobody.
//!
//! Invariants: the reported state only grows (SwarmKit drops smaller ones); at most one step of the executor is under
//! way; a container that was made is removed before the task is forgotten. The order of states and their messages are
//! those of SwarmKit's `agent/exec` (reference: the agent's `Do`), the texts of failures those of Docker's executor.

use std::time::{Duration, SystemTime};

use weft_wire::swarmkit::task_status::RuntimeStatus;
use weft_wire::swarmkit::{ContainerStatus, PortStatus, TaskState, TaskStatus};

use super::words::{Effect, Exit, Found, Input, Running};

/// A stop or removal that failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// Docker's word for a health check that failed for good.
const UNHEALTHY: &str = "dockerexec: unhealthy container";
/// Docker's word for a container that somebody removed.
const DESTROYED: &str = "dockerexec: container destroyed";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Prepare {
        cancelled: bool,
    },
    Start,
    Settle,
    /// `stale`: it was wanted again meanwhile, so that its end says nothing.
    Leave {
        stale: bool,
    },
    Stop,
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Container {
    None,
    Created,
    Running,
    Exited(Exit),
}

/// One task.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    desired: TaskState,
    gone: bool,
    dependencies: bool,
    state: TaskState,
    message: String,
    error: String,
    container_id: String,
    container: Container,
    running: Running,
    healthy: bool,
    unhealthy: bool,
    /// Others reach it over a network.
    reachable: bool,
    /// Balancers know it.
    settled: bool,
    /// Balancers know that it ends.
    left: bool,
    step: Option<Step>,
    retry_at: Option<SystemTime>,
    forgotten: bool,
}

impl Machine {
    /// A task that was just assigned.
    pub(crate) fn new() -> Self {
        Self {
            desired: TaskState::New,
            gone: false,
            dependencies: false,
            state: TaskState::Assigned,
            message: String::new(),
            error: String::new(),
            container_id: String::new(),
            container: Container::None,
            running: Running::default(),
            healthy: false,
            unhealthy: false,
            reachable: false,
            settled: false,
            left: false,
            step: None,
            retry_at: None,
            forgotten: false,
        }
    }

    /// One that others reach over a network.
    pub(crate) fn reachable(self, reachable: bool) -> Self {
        Self { reachable, ..self }
    }

    /// A task known from before a start of the daemon: what was last reported, and what of it is there now.
    pub(crate) fn restored(status: Option<&TaskStatus>, found: Option<(String, Found)>) -> Self {
        let mut machine = Self::new();
        if let Some(status) = status {
            machine.state = status.state().max(TaskState::Assigned);
            machine.settled = machine.state >= TaskState::Running;
            machine.message.clone_from(&status.message);
            machine.error.clone_from(&status.err);
            if let Some(RuntimeStatus::Container(container)) = &status.runtime_status {
                machine.container_id.clone_from(&container.container_id);
                machine.running.pid = container.pid;
            }
            if let Some(ports) = &status.port_status {
                machine.running.ports.clone_from(&ports.ports);
            }
        }
        match found {
            Some((id, found)) => {
                machine.container_id = id;
                machine.adopt(found);
            }
            // It had a container, and somebody took it away while nobody looked.
            None if machine.state >= TaskState::Ready && !machine.is_over() => {
                machine.container = Container::Exited(destroyed());
            }
            None => {}
        }
        machine
    }

    fn adopt(&mut self, found: Found) {
        match found {
            // Not the one that ran.
            Found::Created if self.state > TaskState::Starting && !self.is_over() => {
                self.container = Container::Exited(destroyed());
            }
            Found::Created => self.container = Container::Created,
            Found::Running(running, healthy) => {
                self.container = Container::Running;
                self.running = running;
                self.healthy = healthy;
            }
            Found::Exited(exit) => self.container = Container::Exited(exit),
        }
    }

    /// The id of the container, empty before there is one.
    pub(crate) fn container_id(&self) -> &str {
        &self.container_id
    }

    /// Whether traffic may go to this task: it runs and is not about to end.
    pub(crate) fn is_serving(&self) -> bool {
        let begun = self.settled || self.step == Some(Step::Settle);
        (self.state == TaskState::Running || begun && self.state == TaskState::Starting)
            && !self.is_ending()
            && !self.unhealthy
    }

    /// A state that nothing follows.
    fn is_over(&self) -> bool {
        self.state >= TaskState::Complete
    }

    fn is_ending(&self) -> bool {
        self.gone || self.desired >= TaskState::Shutdown
    }

    fn is_to_be_removed(&self) -> bool {
        self.gone || self.desired >= TaskState::Remove
    }

    /// Takes an input in; the effects are appended in the order in which they are to be carried out.
    pub(crate) fn on(&mut self, now: SystemTime, input: Input, out: &mut Vec<Effect>) {
        self.note(now, input, out);
        while !self.forgotten && self.advance(now, out) {}
    }

    fn note(&mut self, now: SystemTime, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Assigned { desired, dependencies } => {
                // The wish never goes back: a manager that was behind may still send an older one.
                self.desired = self.desired.max(desired);
                self.dependencies = dependencies;
                self.gone = false;
                if !self.is_ending() {
                    self.come_back();
                }
            }
            Input::Gone => self.gone = true,
            Input::Prepared(outcome) => {
                self.step = None;
                self.prepared(now, outcome, out);
            }
            Input::Started(outcome) => {
                self.step = None;
                self.started(now, outcome, out);
            }
            Input::Exited(exit) => {
                if self.container != Container::None {
                    self.container = Container::Exited(exit);
                    self.end_wait();
                }
            }
            Input::Health(healthy) => {
                // Unhealthy once is the end, whatever is heard while it stops.
                self.healthy = healthy;
                self.unhealthy |= !healthy;
                if self.unhealthy {
                    self.end_wait();
                }
            }
            // One that was not waited for any longer comes too late.
            Input::Settled if self.step == Some(Step::Settle) => {
                self.step = None;
                self.settled = true;
            }
            Input::Settled => {}
            Input::Left => {
                if let Some(Step::Leave { stale }) = self.step {
                    self.step = None;
                    self.left = !stale;
                }
            }
            Input::Stopped(outcome) => {
                self.step = None;
                match outcome {
                    Ok(exit) if self.container == Container::Running => {
                        self.container = Container::Exited(exit);
                    }
                    Ok(_) => {}
                    Err(_) => self.retry_later(now, out),
                }
            }
            Input::Removed(outcome) => {
                self.step = None;
                match outcome {
                    Ok(()) => self.container = Container::None,
                    Err(_) => self.retry_later(now, out),
                }
            }
            Input::Tick => {
                if self.retry_at.is_some_and(|at| at <= now) {
                    self.retry_at = None;
                }
            }
        }
    }

    fn prepared(&mut self, now: SystemTime, outcome: Result<String, String>, out: &mut Vec<Effect>) {
        match outcome {
            Ok(id) => {
                self.container_id = id;
                self.container = Container::Created;
            }
            Err(_) if self.is_ending() => {}
            Err(error) => self.fail(now, error, out),
        }
    }

    fn started(&mut self, now: SystemTime, outcome: Result<Running, Exit>, out: &mut Vec<Effect>) {
        match outcome {
            Ok(running) => {
                self.running = running;
                // Its end may have been heard first.
                if self.container == Container::Created {
                    self.container = Container::Running;
                }
            }
            Err(exit) => {
                let error = exit.error.clone();
                self.container = Container::Exited(exit);
                if !self.is_ending() {
                    self.fail(now, error, out);
                }
            }
        }
    }

    /// The managers want it after all.
    fn come_back(&mut self) {
        self.left = false;
        if let Some(Step::Leave { stale }) = &mut self.step {
            *stale = true;
        }
    }

    /// Nothing is won by waiting for balancers any longer.
    fn end_wait(&mut self) {
        if matches!(self.step, Some(Step::Settle | Step::Leave { .. })) {
            self.step = None;
        }
    }

    fn retry_later(&mut self, now: SystemTime, out: &mut Vec<Effect>) {
        let at = now + RETRY;
        self.retry_at = Some(at);
        out.push(Effect::Wake(at));
    }

    /// One step, if there is one to take.
    fn advance(&mut self, now: SystemTime, out: &mut Vec<Effect>) -> bool {
        if self.is_over() {
            self.clean_up(out)
        } else if self.is_ending() {
            self.wind_down(now, out)
        } else if self.step.is_none() {
            self.go_on(now, out)
        } else {
            false
        }
    }

    fn go_on(&mut self, now: SystemTime, out: &mut Vec<Effect>) -> bool {
        match self.state {
            TaskState::Accepted if self.desired > TaskState::Accepted => {
                self.reach(now, TaskState::Preparing, "preparing", out)
            }
            TaskState::Accepted => false,
            TaskState::Preparing if self.container != Container::None => {
                self.reach(now, TaskState::Ready, "prepared", out)
            }
            TaskState::Preparing if self.dependencies => {
                self.begin(Step::Prepare { cancelled: false }, Effect::Prepare, out)
            }
            TaskState::Preparing => false,
            TaskState::Ready if self.desired >= TaskState::Running => {
                self.reach(now, TaskState::Starting, "starting", out)
            }
            TaskState::Ready => false,
            TaskState::Starting | TaskState::Running => self.run(now, out),
            _ => self.reach(now, TaskState::Accepted, "accepted", out),
        }
    }

    /// Starting or running.
    fn run(&mut self, now: SystemTime, out: &mut Vec<Effect>) -> bool {
        let starting = self.state == TaskState::Starting;
        match &self.container {
            Container::None => {
                self.fail(now, DESTROYED.to_owned(), out);
                true
            }
            Container::Created => self.begin(Step::Start, Effect::Start, out),
            Container::Exited(exit) => {
                let exit = exit.clone();
                self.ended(now, &exit, out);
                true
            }
            Container::Running if self.unhealthy => self.stop(out),
            Container::Running if starting && (self.healthy || !self.running.health_checked) => {
                if self.reachable && !self.settled {
                    self.begin(Step::Settle, Effect::Settle, out)
                } else {
                    self.reach(now, TaskState::Running, "started", out)
                }
            }
            Container::Running => false,
        }
    }

    /// The container ended of its own accord, or because it was unhealthy.
    fn ended(&mut self, now: SystemTime, exit: &Exit, out: &mut Vec<Effect>) {
        let cause = if self.unhealthy { UNHEALTHY } else { &exit.error };
        if self.unhealthy && self.state == TaskState::Starting {
            self.fail(now, UNHEALTHY.to_owned(), out);
        } else if exit.code != 0 {
            let cause = if cause.is_empty() { String::new() } else { format!(": {cause}") };
            self.fail(now, format!("task: non-zero exit ({}){cause}", exit.code), out);
        } else if !exit.error.is_empty() {
            self.fail(now, exit.error.clone(), out);
        } else {
            // One that ends before its first look at its health has started, too.
            if self.state == TaskState::Starting {
                self.reach(now, TaskState::Running, "started", out);
            }
            self.reach(now, TaskState::Complete, "finished", out);
        }
    }

    /// The task is to end.
    fn wind_down(&mut self, now: SystemTime, out: &mut Vec<Effect>) -> bool {
        match (self.step, &self.container) {
            (Some(Step::Prepare { cancelled: false }), _) => {
                self.step = Some(Step::Prepare { cancelled: true });
                out.push(Effect::CancelPrepare);
                false
            }
            (Some(Step::Stop), Container::Exited(_)) | (None, Container::Exited(_)) => {
                self.reach(now, TaskState::Shutdown, "shutdown", out)
            }
            // It has been offered to balancers, some of which may know it.
            (Some(Step::Settle), _) => {
                self.step = None;
                self.settled = true;
                true
            }
            (Some(_), _) => false,
            (None, Container::Running) if self.is_to_leave() => {
                self.begin(Step::Leave { stale: false }, Effect::Leave, out)
            }
            (None, Container::Running) => self.stop(out),
            (None, Container::None | Container::Created) => {
                self.reach(now, TaskState::Shutdown, "shutdown", out)
            }
        }
    }

    /// Whether balancers have to let go of it before it is stopped.
    fn is_to_leave(&self) -> bool {
        self.reachable && self.settled && !self.left && !self.unhealthy
    }

    fn clean_up(&mut self, out: &mut Vec<Effect>) -> bool {
        if self.step.is_some() || self.retry_at.is_some() || !self.is_to_be_removed() {
            return false;
        }
        match self.container {
            Container::None if self.gone => {
                self.forgotten = true;
                out.push(Effect::Forget);
                true
            }
            Container::None => false,
            Container::Running => self.stop(out),
            Container::Created | Container::Exited(_) => self.begin(Step::Remove, Effect::Remove, out),
        }
    }

    fn stop(&mut self, out: &mut Vec<Effect>) -> bool {
        if self.retry_at.is_some() || self.step.is_some() {
            return false;
        }
        self.begin(Step::Stop, Effect::Stop, out)
    }

    fn begin(&mut self, step: Step, effect: Effect, out: &mut Vec<Effect>) -> bool {
        self.step = Some(step);
        out.push(effect);
        false
    }

    fn fail(&mut self, now: SystemTime, error: String, out: &mut Vec<Effect>) {
        let state = if self.state < TaskState::Starting { TaskState::Rejected } else { TaskState::Failed };
        self.error = error;
        // As with SwarmKit, the message stays that of the state in which it failed.
        self.state = state;
        out.push(Effect::Report(self.status(now)));
    }

    fn reach(&mut self, now: SystemTime, state: TaskState, message: &str, out: &mut Vec<Effect>) -> bool {
        if state <= self.state {
            return false;
        }
        self.state = state;
        self.message = message.to_owned();
        out.push(Effect::Report(self.status(now)));
        true
    }

    /// What the managers are told now.
    pub(crate) fn status(&self, now: SystemTime) -> TaskStatus {
        // Docker's agent names container and ports from Starting on.
        let known = self.state >= TaskState::Starting;
        let exit_code = match &self.container {
            Container::Exited(exit) => exit.code,
            _ => 0,
        };
        let pid = if matches!(self.container, Container::Running) { self.running.pid } else { 0 };
        let container = ContainerStatus { container_id: self.container_id.clone(), pid, exit_code };
        TaskStatus {
            timestamp: Some(now.into()),
            state: self.state.into(),
            message: self.message.clone(),
            err: self.error.clone(),
            runtime_status: known.then_some(RuntimeStatus::Container(container)),
            port_status: known.then(|| PortStatus { ports: self.running.ports.clone() }),
            ..TaskStatus::default()
        }
    }
}

/// The end of a container that is not there any more.
fn destroyed() -> Exit {
    Exit { code: 0, error: DESTROYED.to_owned() }
}

#[cfg(test)]
#[path = "machine_test.rs"]
mod tests;
