//! A container in the daemon's memory: its record and those who wait for it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;
use weft_types::ContainerId;

use super::health::HealthStatus;
use super::record::{Record, RunState};
use super::rootfs::RootFs;
use crate::error::EngineError;
use crate::files::turn::Turns;
use crate::shim::bundle::Bundle;
use crate::shim_client::{Pump, ShimClient};

/// First delay of a restart policy, doubled each time up to [`RESTART_DELAY_MAX`] (Docker's `restartmanager`).
pub(crate) const RESTART_DELAY_MIN: Duration = Duration::from_millis(100);
pub(crate) const RESTART_DELAY_MAX: Duration = Duration::from_secs(60);

/// What waiters look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    pub(crate) running: bool,
    pub(crate) exits: u64,
    pub(crate) exit_code: i64,
    pub(crate) error: Option<String>,
    pub(crate) removed: bool,
}

/// A container.
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) dir: PathBuf,
    pub(crate) bundle: Bundle,
    record: Mutex<Arc<Record>>,
    /// The files may lack what the record says. Changed with the record's lock held.
    unsaved: AtomicBool,
    /// Held by start, stop, restart, remove: one at a time. Never by the handling of an exit, which a stop waits for.
    pub(crate) operation: tokio::sync::Mutex<()>,
    /// Held while it is removed: by the user and by `--rm`, whoever comes first. And while an image is made of it.
    pub(crate) removal: tokio::sync::Mutex<()>,
    /// Of those who mount its files anew, look at them from outside, or remove them.
    pub(crate) files: Turns,
    pub(crate) life: watch::Sender<Life>,
    /// Attached before the start.
    pub(crate) pending: Mutex<Vec<Pump>>,
    /// Ends the wait of a restart policy.
    pub(crate) restart_cancel: Notify,
    pub(crate) restart_delay: Mutex<Duration>,
    /// `None` without a health check.
    pub(crate) health: watch::Sender<Option<HealthStatus>>,
    health_task: Mutex<Option<AbortOnDropHandle<()>>>,
    /// Execs that were created and not forgotten.
    pub(crate) execs: Mutex<Vec<String>>,
}

impl Container {
    pub(crate) fn new(record: Record, dir: PathBuf, bundle: Bundle) -> Self {
        let life =
            Life { running: record.state.is_running(), exit_code: record.state.exit_code, ..Life::default() };
        let health = record.state.health.as_ref().map(|health| health.status);
        Self {
            id: record.id.clone(),
            dir,
            bundle,
            record: Mutex::new(Arc::new(record)),
            unsaved: AtomicBool::new(false),
            operation: tokio::sync::Mutex::new(()),
            removal: tokio::sync::Mutex::new(()),
            files: Turns::default(),
            life: watch::channel(life).0,
            pending: Mutex::new(Vec::new()),
            restart_cancel: Notify::new(),
            restart_delay: Mutex::new(RESTART_DELAY_MIN),
            health: watch::channel(health).0,
            health_task: Mutex::new(None),
            execs: Mutex::new(Vec::new()),
        }
    }

    /// Replaces the task that probes its health; the old one ends.
    pub(crate) fn set_health_task(&self, task: Option<AbortOnDropHandle<()>>) {
        *self.health_task.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = task;
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Record>> {
        self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What is known, as it stands now.
    pub(crate) fn record(&self) -> Arc<Record> {
        self.lock().clone()
    }

    pub(crate) fn state(&self) -> RunState {
        self.lock().state.clone()
    }

    pub(crate) fn name(&self) -> String {
        self.lock().name.clone()
    }

    /// Looks without copying.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the record, on disk first: a crash shows the old or the new state.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Record)) -> Result<(), EngineError> {
        let mut record = self.lock();
        let mut changed = Record::clone(&record);
        change(&mut changed);
        self.save(&changed, &record)?;
        *record = Arc::new(changed);
        Ok(())
    }

    /// Takes in what has happened: it has, also where the disk is full. What could not be written is written with the
    /// next change; a daemon that starts before compares the file with what runs.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Record)) {
        let mut record = self.lock();
        let before = record.clone();
        change(Arc::make_mut(&mut record));
        if let Err(error) = self.save(&record, &before) {
            tracing::error!(container = %self.id, %error, "state not saved");
        }
    }

    fn save(&self, record: &Record, before: &Record) -> Result<(), EngineError> {
        let unsaved = self.unsaved.swap(true, Ordering::Relaxed);
        record.save(&self.dir, Some(before).filter(|_| !unsaved))?;
        self.unsaved.store(false, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn shim(&self) -> ShimClient {
        ShimClient::new(self.id.as_str(), self.bundle.clone())
    }

    pub(crate) fn rootfs(&self) -> RootFs {
        RootFs::new(&self.dir)
    }

    /// The json-file log.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}-json.log", self.id))
    }

    /// The directory below each cgroup hierarchy: in the container's own parent (`--cgroup-parent`), else in this one.
    pub(crate) fn cgroup(&self, parent: &str) -> PathBuf {
        let own = self.with(|record| record.host.cgroup_parent.clone()).filter(|own| !own.is_empty());
        Path::new("/").join(own.as_deref().unwrap_or(parent)).join(self.id.as_str())
    }
}

impl Container {
    /// Clients that attached before the start.
    pub(crate) fn pending_pumps(&self) -> MutexGuard<'_, Vec<Pump>> {
        self.pending.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::Phase;

    /// A facts-only record in a folder of its own.
    fn container(dir: &Path) -> Container {
        let id = "0".repeat(64);
        let digest = format!("sha256:{id}");
        let text = serde_json::json!({
            "id": id, "name": "ann", "created": "", "image": digest, "image_name": "", "layers": [],
            "config": {}, "host": {}, "endpoints": {}, "mounts": [], "path": "", "args": [],
        });
        let record: Record = serde_json::from_value(text).unwrap();
        Container::new(record, dir.to_owned(), Bundle::new(dir.to_owned()))
    }

    #[test]
    fn what_has_happened_counts_also_where_it_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("container");
        let container = container(&dir);
        // There is no such folder yet: as good as a full disk.
        container.note(|record| record.state.phase = Phase::Exited);
        assert_eq!(container.state().phase, Phase::Exited);
        assert!(container.update(|record| record.name = "bob".to_owned()).is_err());
        assert_eq!(container.name(), "ann", "a wish that cannot be kept is none");
        std::fs::create_dir(&dir).unwrap();
        container.update(|record| record.name = "bob".to_owned()).unwrap();
        assert_eq!(Record::load(&dir).unwrap().state.phase, Phase::Exited, "written with the next change");
    }
}
