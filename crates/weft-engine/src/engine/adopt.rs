//! The start of the daemon: what was there before is taken over.
//!
//! For each container on disk: its shim lives (then it goes on, or is stopped without live-restore), or it has ended
//! while nobody looked (then its exit file says how). What lives counts, not what was written: where the disk was full,
//! a container runs whose start no file tells. Then restart policies act.

use std::sync::Arc;
use std::time::Duration;

use super::exit::unknown_exit;
use super::{Engine, Result, now};
use crate::container::live::Container;
use crate::container::record::{MountKind, Phase, Record};
use crate::error::EngineError;
use crate::shim::bundle::Bundle;
use crate::shim::protocol::{Reply, Request};
use crate::shim_client::ShimConnection;

/// How long a shim may take to undo a creation.
const UNDONE: Duration = Duration::from_secs(10);

/// A container that still runs.
struct Survivor {
    container: Arc<Container>,
    pid: i32,
    watcher: ShimConnection,
}

impl Engine {
    pub(super) async fn restore(self: &Arc<Self>) -> Result<()> {
        self.load_containers()?;
        self.images.sweep()?;
        let (mut survivors, mut ended) = (Vec::new(), Vec::new());
        for container in self.containers() {
            let state = container.state();
            if state.phase == Phase::Removing {
                continue;
            }
            match find_shim(&container).await {
                Some((pid, watcher)) => survivors.push(Survivor { container, pid, watcher }),
                None if state.is_running() => ended.push(container),
                None => {}
            }
        }
        // Before anything ends: what they share stays mounted.
        for survivor in &survivors {
            let container = &survivor.container;
            let mounts = container.with(|record| record.mounts.clone());
            for volume in mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
                self.volumes.remain(&volume.name, &container.id);
            }
        }
        self.volumes.sweep();
        let running: Vec<_> = survivors.iter().map(|survivor| survivor.container.id.clone()).collect();
        self.network
            .adopt(&running)
            .await
            .map_err(|source| EngineError::Network { prefix: "adopt sandboxes: ", source })?;
        let adoptions: Vec<_> = survivors
            .into_iter()
            .map(|survivor| {
                let engine = self.clone();
                tokio::spawn(async move { engine.adopt(survivor).await })
            })
            .collect();
        for adoption in adoptions {
            let _ = adoption.await;
        }
        for container in ended {
            self.settle(&container).await;
        }
        for container in self.containers() {
            if container.state().phase == Phase::Removing {
                self.remove_ended(&container).await;
            }
        }
        self.remove_orphan_bundles();
        self.hierarchies.sweep(std::path::Path::new(&self.config.cgroup_parent));
        self.start_by_policy();
        Ok(())
    }

    fn load_containers(&self) -> Result<()> {
        let root = self.config.data_root.join("containers");
        let entries = std::fs::read_dir(&root).map_err(EngineError::file("read", &root))?;
        let mut registry = self.registry();
        for entry in entries.flatten() {
            let dir = entry.path();
            if !Record::is_in(&dir) {
                // Its creation, or its removal, was interrupted: nobody knows of it.
                tracing::info!(dir = %dir.display(), "folder without a container removed");
                if let Err(error) = super::remove::remove_whole(&dir) {
                    tracing::warn!(dir = %dir.display(), %error, "folder without a container not removed");
                }
                continue;
            }
            match Record::load(&dir) {
                Ok(record) => {
                    let bundle = Bundle::new(self.bundle_dir(&record.id));
                    registry.names.insert(record.name.clone(), record.id.clone());
                    registry
                        .containers
                        .insert(record.id.clone(), Arc::new(Container::new(record, dir, bundle)));
                }
                // A file that is damaged: kept for a look, but not in the way.
                Err(error) => tracing::warn!(dir = %dir.display(), %error, "container not loaded"),
            }
        }
        Ok(())
    }

    async fn adopt(self: &Arc<Self>, survivor: Survivor) {
        let Survivor { container, pid, watcher } = survivor;
        container.note(|record| {
            let state = &mut record.state;
            if !state.is_running() {
                tracing::warn!(container = %container.id, phase = ?state.phase, "runs, though its start was not saved");
                (state.started_at, state.exit_code, state.error) = (now(), 0, String::new());
            }
            state.phase = Phase::Running;
            state.pid = i64::from(pid);
        });
        container.life.send_modify(|life| life.running = true);
        self.watch_exit(container.clone(), watcher);
        self.thaw_forgotten(&container).await;
        if self.config.live_restore {
            tracing::info!(container = %container.id, pid, "container adopted");
            self.set_recorded_limits(&container).await;
            if !container.state().paused {
                self.resume_health(&container);
            }
        } else {
            // As dockerd does with what survived a crash: stopped now, started again if its policy says so.
            tracing::info!(container = %container.id, pid, "stopping a container that has survived the daemon");
            self.stop_for_shutdown(&container).await;
        }
    }

    /// Thaws what a commit has frozen that ended with its daemon.
    async fn thaw_forgotten(self: &Arc<Self>, container: &Arc<Container>) {
        if !container.state().paused_by_commit {
            return;
        }
        // Between the two files that tell of it, the daemon may have ended as well.
        container.note(|record| record.state.paused = true);
        self.thaw_after_commit(container).await;
    }

    /// Books the end of a container that ended while no daemon ran.
    async fn settle(self: &Arc<Self>, container: &Arc<Container>) {
        let restarting = container.state().phase == Phase::Restarting;
        let exit = container.bundle.read_exit().unwrap_or_else(unknown_exit);
        self.end_health(container);
        self.release(container).await;
        container.note(|record| {
            record.state.phase = Phase::Exited;
            record.state.paused = false;
            record.state.paused_by_commit = false;
            record.state.pid = 0;
            if !restarting {
                record.state.exit_code = exit.code;
                record.state.oom_killed = exit.oom_killed;
                record.state.finished_at = exit.time.clone();
            }
        });
        container.life.send_modify(|life| {
            life.running = false;
            life.exit_code = exit.code;
        });
        self.container_event(container, "die", &[("exitCode", exit.code.to_string())]);
        if container.with(|record| record.host.auto_remove == Some(true)) {
            self.remove_ended(container).await;
        }
    }

    /// Bundles of containers that are gone.
    fn remove_orphan_bundles(&self) {
        let entries = std::fs::read_dir(self.config.exec_root.join("containers"));
        for entry in entries.into_iter().flatten().flatten() {
            let known = entry.file_name().to_str().is_some_and(|id| self.container_id(id).is_ok());
            if !known {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Starts what its restart policy wants running, each in a task of its own.
    fn start_by_policy(self: &Arc<Self>) {
        for container in self.containers() {
            let wanted = container.with(|record| {
                let started_before = record.state.started_at != crate::container::record::NEVER;
                let policy_counts = record.state.phase == Phase::Exited && started_before;
                policy_counts && record.wants_restart(record.state.exit_code)
            });
            if wanted {
                let engine = self.clone();
                tokio::spawn(async move { engine.start_until_it_runs(&container).await });
            }
        }
    }

    /// Tries again with growing pauses: a swarm network may be ready later than the engine.
    async fn start_until_it_runs(self: &Arc<Self>, container: &Arc<Container>) {
        use crate::container::live::{RESTART_DELAY_MAX, RESTART_DELAY_MIN};
        let mut delay = RESTART_DELAY_MIN;
        while !self.is_shutting_down() {
            {
                let _operation = container.operation.lock().await;
                if container.state().phase != Phase::Exited || container.life.borrow().removed {
                    return;
                }
                match self.start_locked(container).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(container = %container.id, %error, "restart policy could not start it")
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => delay = (delay * 2).min(RESTART_DELAY_MAX),
                () = self.closing.cancelled() => return,
            }
        }
    }
}

/// The living shim of a container, if there is one with a started process. One whose creator was killed before the start
/// undoes what it did and ends; that is waited for, since the next start works in the same places.
async fn find_shim(container: &Container) -> Option<(i32, ShimConnection)> {
    let mut connection = container.shim().open(&Request::Watch).await.ok()?;
    if let Reply::Started { pid } = connection.reply().await.ok()? {
        return Some((pid, connection));
    }
    let ended = async { while connection.reply().await.is_ok() {} };
    if tokio::time::timeout(UNDONE, ended).await.is_err() {
        tracing::warn!(container = %container.id, "its shim neither runs it nor ends");
    }
    None
}
