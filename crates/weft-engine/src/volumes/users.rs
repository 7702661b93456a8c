//! Who has which volume mounted. A volume with options is mounted for the first container that starts with it, and
//! unmounted when the last one has ended.
//!
//! Not kept on disk: it follows from which containers run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use weft_types::ContainerId;

use super::mount::{LocalMount, unmount_all};
use super::{Result, Volume, Volumes, options};
use crate::container::record::MountRecord;
use crate::error::EngineError;

/// Running containers of one volume. Locked while the volume is mounted or unmounted, which may take its time.
type Users = Arc<Mutex<BTreeSet<ContainerId>>>;

/// By the volume's name.
#[derive(Debug, Default)]
pub(super) struct UsersByVolume(Mutex<BTreeMap<String, Users>>);

impl UsersByVolume {
    fn of(&self, volume: &str) -> Users {
        lock(&self.0).entry(volume.to_owned()).or_default().clone()
    }

    pub(super) fn forget(&self, volume: &str) {
        lock(&self.0).remove(volume);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Volumes {
    /// Sees to it that a volume is mounted, for a container that is about to start.
    pub(crate) fn enter(&self, mount: &MountRecord, container: &ContainerId) -> Result<()> {
        let Ok(volume) = self.get(&mount.name) else { return Ok(()) };
        let users = self.users.of(&volume.name);
        let mut users = lock(&users);
        if users.is_empty() && !volume.options.is_empty() {
            // What a crash has left is mounted anew: nobody uses it, and the options may mean something else by now.
            unmounted(&volume)?;
            if let Some(mount) = plan(&volume)? {
                mount.mount().map_err(|error| refused(&volume, &error))?;
            }
        }
        if users.insert(container.clone()) {
            self.tell(&volume.name, "mount", &mounted(mount, container));
        }
        Ok(())
    }

    /// A container that has outlived a daemon still has the volume, which is mounted.
    pub(crate) fn remain(&self, volume: &str, container: &ContainerId) {
        if let Ok(volume) = self.get(volume) {
            lock(&self.users.of(&volume.name)).insert(container.clone());
        }
    }

    /// Unmounts what a daemon that was killed has left mounted for nobody. For the start, once all are known who remain.
    pub(crate) fn sweep(&self) {
        for volume in self.list().iter().filter(|volume| !volume.options.is_empty()) {
            let unused = lock(&self.users.of(&volume.name)).is_empty();
            if unused && let Err(error) = unmounted(volume) {
                tracing::warn!(volume = volume.name, %error, "volume left mounted");
            }
        }
    }

    /// A container has ended. Doing this twice does no harm.
    pub(crate) fn leave(&self, volume: &str, container: &ContainerId) -> Result<()> {
        let Ok(volume) = self.get(volume) else { return Ok(()) };
        let users = self.users.of(&volume.name);
        let mut users = lock(&users);
        if users.remove(container) {
            self.tell(&volume.name, "unmount", &[("container", container.as_str())]);
        }
        if users.is_empty() && !volume.options.is_empty() { unmounted(&volume) } else { Ok(()) }
    }

    /// What to mount where somebody looks at a volume that no running container has; `None` if there is nothing to do.
    pub(crate) fn absent(&self, volume: &str) -> Result<Option<LocalMount>> {
        let Ok(volume) = self.get(volume) else { return Ok(None) };
        let users = self.users.of(&volume.name);
        if volume.options.is_empty() || !lock(&users).is_empty() {
            return Ok(None);
        }
        plan(&volume)
    }
}

/// What Docker tells of a mount.
fn mounted<'a>(mount: &'a MountRecord, container: &'a ContainerId) -> [(&'static str, &'a str); 4] {
    [
        ("container", container.as_str()),
        ("destination", mount.destination.to_str().unwrap_or_default()),
        ("propagation", &mount.propagation),
        ("read/write", if mount.writable { "true" } else { "false" }),
    ]
}

fn plan(volume: &Volume) -> Result<Option<LocalMount>> {
    options::mount_of(&volume.options, &volume.mountpoint).map_err(|error| refused(volume, &error))
}

fn refused(volume: &Volume, error: &dyn std::fmt::Display) -> EngineError {
    let path = volume.mountpoint.display();
    EngineError::Refused(format!("error while mounting volume '{path}': {error}"))
}

/// Nothing is mounted at a volume's place afterwards.
pub(super) fn unmounted(volume: &Volume) -> Result<()> {
    unmount_all(&volume.mountpoint)
        .map_err(|error| EngineError::file("unmount", &volume.mountpoint)(error.into()))
}
