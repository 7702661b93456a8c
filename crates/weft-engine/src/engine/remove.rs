//! Removing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Engine, Result, blocking};
use crate::container::live::Container;
use crate::container::record::{MountKind, Phase};
use crate::error::EngineError;
use crate::options::{Filters, RemoveOptions};
use crate::until::{is_before, until};
use crate::volumes::Volume;

/// More attempts would be against somebody who does not stop writing.
const REMOVALS: usize = 100;

impl Engine {
    /// Removes it.
    pub async fn remove(self: &Arc<Self>, term: &str, options: RemoveOptions) -> Result<()> {
        let container = self.find(term)?;
        loop {
            let state = container.state();
            if state.is_running() {
                self.make_way(&container, term, options.force).await?;
            }
            let _operation = container.operation.lock().await;
            // A restart policy, or a start that had its turn first, may have been faster.
            if !container.state().is_running() {
                return self.remove_files(&container, options.volumes).await;
            }
        }
    }

    /// Kills what runs and shall be removed, if that is wanted.
    async fn make_way(self: &Arc<Self>, container: &Arc<Container>, term: &str, force: bool) -> Result<()> {
        let state = container.state();
        if !force {
            let what = if state.paused { "paused" } else { "running" };
            let hint = if state.paused { "unpause and stop" } else { "stop" };
            return Err(EngineError::Conflict(format!(
                "cannot remove container \"{term}\": container is {what}: {hint} the container before removing or force remove"
            )));
        }
        match self.kill(container.id.as_str(), None).await {
            Err(error) if container.state().is_running() => {
                Err(error.context(format!("cannot remove container \"{term}\": could not kill container")))
            }
            _ => Ok(()),
        }
    }

    /// Removes a container that has ended, for `--rm`; its anonymous volumes go with it.
    pub(super) async fn remove_ended(self: &Arc<Self>, container: &Arc<Container>) {
        if let Err(error) = self.remove_files(container, true).await {
            tracing::error!(container = %container.id, %error, "not removed");
        }
    }

    pub(super) async fn remove_files(
        self: &Arc<Self>,
        container: &Arc<Container>,
        volumes: bool,
    ) -> Result<()> {
        let _removal = container.removal.lock().await;
        if container.life.borrow().removed {
            return Ok(());
        }
        // From here on a crash is finished at the next start. A full disk must not prevent what makes room on it.
        container.note(|record| record.state.phase = Phase::Removing);
        self.release(container).await;
        let _alone = container.files.take().await;
        let mounts = container.with(|record| record.mounts.clone());
        let dir = container.dir.clone();
        blocking(move || remove_whole(&dir).map_err(EngineError::file("remove", dir))).await?;
        {
            let mut registry = self.registry();
            registry.containers.remove(&container.id);
            registry.names.retain(|_, id| *id != container.id);
        }
        self.execs.forget(container);
        let (image, layers) = container.with(|record| (record.image.clone(), record.layers.clone()));
        if !self.images.is_here(&image) {
            let images = self.images.clone();
            blocking(move || {
                images.release(&layers);
                Ok(())
            })
            .await?;
        }
        if volumes {
            let anonymous = mounts.iter().filter(|mount| mount.kind == MountKind::Volume && mount.anonymous);
            for mount in anonymous {
                if self.volume_users(&mount.name).is_empty()
                    && let Err(error) = self.volumes.remove(&mount.name)
                {
                    tracing::warn!(volume = mount.name, %error, "volume left behind");
                }
            }
        }
        container.pending_pumps().clear();
        self.container_event(container, "destroy", &[]);
        container.life.send_modify(|life| {
            life.running = false;
            life.removed = true;
        });
        Ok(())
    }

    /// Ids of containers that use a volume.
    pub fn volume_users(&self, volume: &str) -> Vec<String> {
        let uses = |container: &Arc<Container>| {
            container.with(|record| {
                record.mounts.iter().any(|mount| mount.kind == MountKind::Volume && mount.name == volume)
            })
        };
        self.containers()
            .iter()
            .filter(|container| uses(container))
            .map(|container| container.id.to_string())
            .collect()
    }

    /// Removes a volume that no container uses.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let users = self.volume_users(name);
        if !users.is_empty() {
            return Err(EngineError::Conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        match self.volumes.remove(name) {
            Err(EngineError::NoSuchVolume(_)) if force => Ok(()),
            other => other,
        }
    }

    /// Containers that use a volume, and the bytes of its files; of one that is mounted when used only when it is. Walks
    /// through the files: not for the event loop.
    pub fn volume_usage(&self, volume: &Volume) -> (usize, i64) {
        (self.volume_users(&volume.name).len(), super::directory_size(&volume.mountpoint))
    }

    /// Removes all stopped containers that match; ids and reclaimed bytes.
    pub async fn prune(self: &Arc<Self>, filters: &Filters) -> Result<(Vec<String>, i64)> {
        let until = until(filters)?;
        let (mut removed, mut freed) = (Vec::new(), 0);
        for container in self.containers() {
            let stopped = !container.state().is_running();
            let chosen = container.with(|record| {
                is_before(&record.created, until) && super::list::labels_match(record, filters)
            });
            if !stopped || !chosen {
                continue;
            }
            let size = super::directory_size(&container.rootfs().upper());
            let options = RemoveOptions { force: false, volumes: false };
            if self.remove(container.id.as_str(), options).await.is_ok() {
                removed.push(container.id.to_string());
                freed += size;
            }
        }
        Ok((removed, freed))
    }
}

/// Removes a folder also where somebody still writes into it, such as whoever saves what a container was last.
pub(super) fn remove_whole(dir: &Path) -> io::Result<()> {
    for _ in 0..REMOVALS {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            removed => return removed,
        }
    }
    std::fs::remove_dir_all(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_also_while_somebody_writes_into_it() {
        let place = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let dir = place.path().join(round.to_string());
            std::fs::create_dir(&dir).unwrap();
            let to = dir.clone();
            let writer = std::thread::spawn(move || {
                (0..).take_while(|n: &u32| std::fs::write(to.join(n.to_string()), "").is_ok()).count()
            });
            remove_whole(&dir).unwrap();
            assert!(!dir.exists());
            writer.join().unwrap();
        }
    }
}
