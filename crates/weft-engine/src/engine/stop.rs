//! Signals, stopping, restarting, pausing, waiting, and the end of the daemon.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Engine, Result, blocking, now};
use crate::container::health::uptime;
use crate::container::live::Container;
use crate::container::record::Phase;
use crate::container::signal;
use crate::error::EngineError;
use crate::options::{StopOptions, WaitCondition, WaitFuture, WaitResult};
use crate::shim::protocol::{Reply, Request};

/// Grace period of `docker stop` in seconds.
const STOP_TIMEOUT: i64 = 10;
/// How long the kernel gets to end a process after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;
/// How long after its start a program may not ask for signals yet.
const YOUNG: Duration = Duration::from_secs(1);
/// Between two looks whether it does.
const EARS_INTERVAL: Duration = Duration::from_millis(5);

impl Engine {
    /// Stops it with its grace period. `NotModified` if it does not run.
    pub async fn stop(self: &Arc<Self>, term: &str, options: StopOptions) -> Result<()> {
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        self.stop_locked(&container, &options).await
    }

    pub(super) async fn stop_locked(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: &StopOptions,
    ) -> Result<()> {
        let own = container.with(|record| record.config.stop_signal.clone()).filter(|text| !text.is_empty());
        let signal = options.signal.clone().filter(|text| !text.is_empty()).or(own);
        let number = signal.map(|text| signal::parse(&text)).transpose()?.unwrap_or(15);
        let state = container.state();
        match state.phase {
            Phase::Running => {}
            Phase::Restarting => {
                self.cancel_restart(container);
                self.container_event(container, "stop", &[]);
                return Ok(());
            }
            _ => return Err(EngineError::NotModified(format!("container {} is not running", container.id))),
        }
        let seconds = options
            .timeout
            .or_else(|| container.with(|record| record.config.stop_timeout))
            .unwrap_or(STOP_TIMEOUT);
        let grace = u64::try_from(seconds).ok().map(Duration::from_secs);
        container.note(|record| record.state.manually_stopped = true);
        self.end(container, number, grace).await?;
        self.container_event(container, "stop", &[]);
        Ok(())
    }

    /// Takes a container out of the wait of its restart policy.
    fn cancel_restart(&self, container: &Container) {
        container.note(|record| {
            record.state.phase = Phase::Exited;
            record.state.manually_stopped = true;
        });
        container.restart_cancel.notify_waiters();
        container.life.send_modify(|life| life.running = false);
    }

    /// Signals, waits, kills, waits.
    async fn end(
        self: &Arc<Self>,
        container: &Arc<Container>,
        signal: i32,
        grace: Option<Duration>,
    ) -> Result<()> {
        let mut life = container.life.subscribe();
        let exits = life.borrow().exits;
        if container.state().paused {
            self.set_paused(container, false).await?;
        }
        let begin = Instant::now();
        self.await_ears(container, signal, grace).await;
        self.send_signal(container, signal).await?;
        let ended = life.wait_for(|life| life.exits > exits || life.removed);
        let in_time = match grace {
            Some(grace) => tokio::time::timeout(grace.saturating_sub(begin.elapsed()), ended).await.is_ok(),
            None => ended.await.is_ok(),
        };
        if in_time {
            return Ok(());
        }
        tracing::info!(container = %container.id, "did not stop in time, killing");
        self.send_signal(container, SIGKILL).await?;
        let ended = life.wait_for(|life| life.exits > exits || life.removed);
        match tokio::time::timeout(KILL_TIMEOUT, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(EngineError::Refused(format!(
                "cannot stop container: {}: tried to kill container, but did not receive an exit event",
                container.id
            ))),
        }
    }

    /// A program that has just begun may not have got to where it asks for signals: as the first process of its namespace
    /// it would never hear of this one.
    async fn await_ears(&self, container: &Container, signal: i32, grace: Option<Duration>) {
        let (pid, started, first) = container
            .with(|record| (record.state.pid, record.state.started_at.clone(), record.has_own_pids()));
        let young = YOUNG.saturating_sub(uptime(&started, jiff::Timestamp::now()));
        let deadline = Instant::now() + grace.map_or(young, |grace| grace.min(young));
        let is_deaf = || {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
            let hears = |status: String| signal::is_heard_by_first(&status, signal);
            !read("status").map_or(true, hears)
                && !read("syscall").is_ok_and(|call| signal::is_awaited(&call))
        };
        while first && signal != SIGKILL && Instant::now() < deadline && is_deaf() {
            tokio::time::sleep(EARS_INTERVAL).await;
        }
    }

    async fn send_signal(&self, container: &Container, signal: i32) -> Result<()> {
        match container.shim().request(&Request::Signal { signal }).await {
            Ok(Reply::Done) => {
                self.container_event(container, "kill", &[("signal", signal.to_string())]);
                Ok(())
            }
            // It has ended by itself: whoever waits for that is told.
            Ok(_) | Err(EngineError::Shim { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stops it if it runs, then starts it.
    pub async fn restart(self: &Arc<Self>, term: &str, options: StopOptions) -> Result<()> {
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        let auto_remove = container.with(|record| record.host.auto_remove == Some(true));
        // A restart is no end: `--rm` must not act on it.
        if auto_remove {
            container.update(|record| record.host.auto_remove = Some(false))?;
        }
        let stopped = match self.stop_locked(&container, &options).await {
            Err(EngineError::NotModified(_)) => Ok(()),
            other => other,
        };
        if auto_remove {
            container.update(|record| record.host.auto_remove = Some(true))?;
        }
        stopped?;
        container.update(|record| {
            record.state.restart_count = 0;
            record.state.manually_stopped = false;
        })?;
        self.start_locked(&container).await?;
        self.container_event(&container, "restart", &[]);
        Ok(())
    }

    /// Sends a signal (default KILL), `9`, `TERM` or `SIGTERM`.
    pub async fn kill(self: &Arc<Self>, term: &str, signal: Option<&str>) -> Result<()> {
        let wrap = |error: EngineError| error.context(format!("cannot kill container: {term}"));
        let container = self.find(term).map_err(wrap)?;
        let signal = signal.filter(|text| !text.is_empty()).unwrap_or("KILL");
        let number = signal::parse(signal).map_err(wrap)?;
        let not_running = || wrap(EngineError::NotRunning(container.id.to_string()));
        if number == SIGKILL {
            // Without the operation lock: a kill must get through while a stop waits.
            match container.state().phase {
                Phase::Running => {}
                Phase::Restarting => {
                    self.cancel_restart(&container);
                    return Ok(());
                }
                _ => return Err(not_running()),
            }
            container.note(|record| record.state.manually_stopped = true);
            return self.end(&container, SIGKILL, Some(KILL_TIMEOUT)).await;
        }
        if container.state().phase != Phase::Running {
            return Err(not_running());
        }
        let stop_signal = container.with(|record| record.config.stop_signal.clone());
        let stops =
            stop_signal.filter(|text| !text.is_empty()).map_or(Ok(15), |text| signal::parse(&text))?;
        if number == stops {
            container.note(|record| record.state.manually_stopped = true);
        }
        self.send_signal(&container, number).await
    }

    /// Freezes all its processes.
    pub async fn pause(self: &Arc<Self>, term: &str) -> Result<()> {
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        let state = container.state();
        if state.phase != Phase::Running {
            return Err(EngineError::NotRunning(container.id.to_string()));
        }
        if state.paused {
            return Err(EngineError::Conflict(format!("Container {} is already paused", container.id)));
        }
        self.set_paused(&container, true).await?;
        self.suspend_health(&container);
        self.container_event(&container, "pause", &[]);
        Ok(())
    }

    /// Thaws them.
    pub async fn unpause(self: &Arc<Self>, term: &str) -> Result<()> {
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        if !container.state().paused {
            return Err(EngineError::Refused(format!("Container {} is not paused", container.id)));
        }
        self.set_paused(&container, false).await?;
        self.resume_health(&container);
        self.container_event(&container, "unpause", &[]);
        Ok(())
    }

    pub(super) async fn set_paused(&self, container: &Arc<Container>, paused: bool) -> Result<()> {
        let (hierarchies, cgroup) = (self.hierarchies.clone(), container.cgroup(&self.config.cgroup_parent));
        blocking(move || {
            hierarchies.set_frozen(&cgroup, paused).map_err(EngineError::file("freeze or thaw", cgroup))
        })
        .await?;
        container.note(|record| record.state.paused = paused);
        Ok(())
    }

    /// Registers a waiter at once; the future resolves when the condition is met.
    pub fn wait(self: &Arc<Self>, term: &str, condition: WaitCondition) -> Result<WaitFuture> {
        let container = self.find(term)?;
        let mut life = container.life.subscribe();
        let exits = life.borrow().exits;
        // What runs is asked of the record: the first start of a container must not be missed.
        let running = life.borrow().running;
        Ok(Box::pin(async move {
            let met = life
                .wait_for(|life| match condition {
                    WaitCondition::NotRunning => {
                        !running || life.exits > exits || !life.running || life.removed
                    }
                    WaitCondition::NextExit => life.exits > exits || life.removed,
                    WaitCondition::Removed => life.removed,
                })
                .await;
            match met {
                Ok(life) => WaitResult { status_code: life.exit_code, error: life.error.clone() },
                Err(_) => WaitResult { status_code: 0, error: Some("the engine has closed".to_owned()) },
            }
        }))
    }

    /// The daemon stops: with live-restore containers are left, else they are stopped with their grace period.
    pub async fn shutdown(self: &Arc<Self>) {
        self.shutting_down.store(true, Ordering::SeqCst);
        if self.config.live_restore {
            self.wait_for_commits().await;
        } else {
            self.stop_all().await;
        }
        self.closing.cancel();
        if self.containers().iter().all(|container| container.state().phase != Phase::Running) {
            self.hierarchies.remove_parent(std::path::Path::new(&self.config.cgroup_parent));
        }
    }

    /// Lets go of everything without stopping anything, as a crash would; for tests of adoption.
    #[doc(hidden)]
    pub fn abandon(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
        self.closing.cancel();
    }

    async fn stop_all(self: &Arc<Self>) {
        let stops = self.containers().into_iter().map(|container| {
            let engine = self.clone();
            tokio::spawn(async move { engine.stop_for_shutdown(&container).await })
        });
        for stop in stops.collect::<Vec<_>>() {
            let _ = stop.await;
        }
    }

    /// Stops a container because the daemon ends: its restart policy still counts at the next start.
    pub(super) async fn stop_for_shutdown(self: &Arc<Self>, container: &Arc<Container>) {
        let _operation = container.operation.lock().await;
        let state = container.state();
        if state.phase == Phase::Restarting {
            container.restart_cancel.notify_waiters();
            container.note(|record| {
                record.state.phase = Phase::Exited;
                record.state.finished_at = now();
            });
            container.life.send_modify(|life| life.running = false);
            return;
        }
        if state.phase != Phase::Running {
            return;
        }
        let (own, timeout) =
            container.with(|record| (record.config.stop_signal.clone(), record.config.stop_timeout));
        let signal =
            own.filter(|text| !text.is_empty()).and_then(|text| signal::parse(&text).ok()).unwrap_or(15);
        let grace = match timeout {
            Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
            None => Some(Duration::from_secs((STOP_TIMEOUT as u64).min(self.config.shutdown_timeout))),
        };
        if let Err(error) = self.end(container, signal, grace).await {
            tracing::error!(container = %container.id, %error, "not stopped");
        } else {
            self.container_event(container, "stop", &[]);
        }
    }
}
