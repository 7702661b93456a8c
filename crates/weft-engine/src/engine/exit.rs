//! What happens when a container ends: clean up, tell, remove or restart.

use std::sync::Arc;
use std::time::Duration;

use super::{Engine, now};
use crate::container::health::uptime;
use crate::container::live::{Container, RESTART_DELAY_MAX, RESTART_DELAY_MIN};
use crate::container::record::{MountKind, Phase};
use crate::shim::protocol::ExitStatus;
use crate::shim_client::ShimConnection;

/// A run of at least this length proves that the container works: the restart delay begins anew (Docker's
/// `restartmanager`).
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Exit code of a container whose shim has vanished; Docker's for an unknown end.
const UNKNOWN_EXIT: i64 = 255;

impl Engine {
    /// Waits for the end in a task of its own.
    pub(super) fn watch_exit(self: &Arc<Self>, container: Arc<Container>, mut watcher: ShimConnection) {
        let engine = self.clone();
        tokio::spawn(async move {
            let exit = tokio::select! {
                exit = watcher.exited() => exit,
                () = engine.closing.cancelled() => return,
            };
            // The file is what a daemon finds that was away; it is also right when the connection broke.
            let exit = exit.or_else(|| container.bundle.read_exit()).unwrap_or_else(unknown_exit);
            engine.on_exit(&container, exit).await;
        });
    }

    /// The container has ended.
    pub(super) async fn on_exit(self: &Arc<Self>, container: &Arc<Container>, exit: ExitStatus) {
        self.end_health(container);
        self.release(container).await;
        let started = container.with(|record| record.state.started_at.clone());
        let restart = !self.is_shutting_down() && container.with(|record| record.wants_restart(exit.code));
        // Stopped by the user: a policy other than `always`… also waits, Docker acts only on ends of its own accord.
        let restart = restart && !container.with(|record| record.state.manually_stopped);
        container.note(|record| {
            record.state.phase = if restart { Phase::Restarting } else { Phase::Exited };
            record.state.paused = false;
            record.state.pid = 0;
            record.state.exit_code = exit.code;
            record.state.oom_killed = exit.oom_killed;
            record.state.finished_at = exit.time.clone();
            if restart {
                record.state.restart_count += 1;
            }
        });
        let uptime = uptime(&started, exit.time.parse().unwrap_or_default());
        // Read before the waiters run: a restart turns it off only until then.
        let auto_remove = container.with(|record| record.host.auto_remove == Some(true));
        if exit.oom_killed {
            self.container_event(container, "oom", &[]);
        }
        self.container_event(
            container,
            "die",
            &[("exitCode", exit.code.to_string()), ("execDuration", uptime.as_secs().to_string())],
        );
        container.life.send_modify(|life| {
            life.running = restart;
            life.exits += 1;
            life.exit_code = exit.code;
            life.error = None;
        });
        if restart {
            self.restart_later(container.clone(), uptime);
        } else if auto_remove && !self.is_detaching() {
            self.remove_ended(container).await;
        }
    }

    /// With live-restore a stop of the daemon must not remove anything.
    fn is_detaching(&self) -> bool {
        self.closing.is_cancelled()
    }

    fn restart_later(self: &Arc<Self>, container: Arc<Container>, uptime: Duration) {
        let delay = {
            let mut delay = container.restart_delay.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if uptime >= STABLE_AFTER {
                *delay = RESTART_DELAY_MIN;
            }
            let now = *delay;
            *delay = (now * 2).min(RESTART_DELAY_MAX);
            now
        };
        let engine = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = container.restart_cancel.notified() => return,
                () = engine.closing.cancelled() => return,
            }
            let _operation = container.operation.lock().await;
            if container.state().phase != Phase::Restarting || engine.is_shutting_down() {
                return;
            }
            if let Err(error) = engine.start_locked(&container).await {
                tracing::warn!(container = %container.id, %error, "restart policy could not start it");
            }
        });
    }

    /// Takes down what a run has set up. Goes on after errors; running it twice does no harm.
    pub(super) async fn release(self: &Arc<Self>, container: &Arc<Container>) {
        let id = &container.id;
        let comes_back =
            self.is_shutting_down() && container.with(|record| record.wants_restart(record.state.exit_code));
        let network = async {
            let removed = if comes_back {
                self.network.suspend_sandbox(id).await
            } else {
                self.network.remove_sandbox(id).await
            };
            if let Err(error) = removed {
                tracing::warn!(container = %id, %error, "network sandbox left behind");
            }
        };
        tokio::join!(network, self.release_files(container));
        container.note(|record| {
            record.sandbox = None;
            record
                .connected
                .values_mut()
                .for_each(|endpoint| *endpoint = super::networks::remembered(endpoint));
        });
    }

    /// Its cgroups, what the shim was given, and its root file system.
    async fn release_files(self: &Arc<Self>, container: &Arc<Container>) {
        let (rootfs, hierarchies) = (container.rootfs(), self.hierarchies.clone());
        let cgroup = container.cgroup(&self.config.cgroup_parent);
        let (bundle, owner) = (container.bundle.path().to_owned(), container.id.clone());
        let (engine, mounts) = (self.clone(), container.with(|record| record.mounts.clone()));
        let done = super::blocking(move || {
            if let Err(error) = hierarchies.remove(&cgroup) {
                tracing::warn!(container = %owner, %error, "cgroups left behind");
            }
            let _ = std::fs::remove_dir_all(bundle);
            for volume in mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
                if let Err(error) = engine.volumes.leave(&volume.name, &owner) {
                    tracing::warn!(container = %owner, volume = volume.name, %error, "volume left mounted");
                }
            }
            rootfs.unmount()
        })
        .await;
        if let Err(error) = done {
            tracing::warn!(container = %container.id, %error, "root file system left mounted");
        }
    }
}

pub(super) fn unknown_exit() -> ExitStatus {
    ExitStatus { code: UNKNOWN_EXIT, oom_killed: false, time: now() }
}
