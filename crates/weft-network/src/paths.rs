//! Where things of a running node are.

use std::path::{Path, PathBuf};

use weft_plan::NamespaceRef;
use weft_types::{ContainerId, NetworkId};

/// The folder of run-time files.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    run_dir: PathBuf,
}

impl Paths {
    pub(crate) fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned() }
    }

    /// Folder of namespace files.
    pub(crate) fn netns_dir(&self) -> PathBuf {
        self.run_dir.join("netns")
    }

    /// A sandbox's namespace, named as Docker names it: the first twelve characters of its id.
    pub(crate) fn sandbox_netns(&self, sandbox_id: &str) -> PathBuf {
        self.netns_dir().join(&sandbox_id[..12.min(sandbox_id.len())])
    }

    /// An overlay network's namespace.
    pub(crate) fn overlay_netns(&self, network: &NetworkId) -> PathBuf {
        let id = network.as_str();
        self.netns_dir().join(format!("1-{}", &id[..10.min(id.len())]))
    }

    /// [`Paths::sandbox_netns`] as plans name it.
    pub(crate) fn sandbox_ref(&self, sandbox_id: &str) -> NamespaceRef {
        NamespaceRef::at(self.sandbox_netns(sandbox_id))
    }

    /// Folder of all containers' `/etc` files.
    pub(crate) fn etc_dir(&self) -> PathBuf {
        self.run_dir.join("etc")
    }

    /// Folder of a container's `/etc` files.
    pub(crate) fn etc(&self, container: &ContainerId) -> PathBuf {
        self.etc_dir().join(container.as_str())
    }

    /// What gossip said last.
    pub(crate) fn gossip(&self) -> PathBuf {
        self.run_dir.join("gossip.json")
    }

    /// What the data path's interface was like before its profile.
    pub(crate) fn steering(&self) -> PathBuf {
        self.run_dir.join("steering.json")
    }

    /// Folder of the helper's socket and files.
    pub(crate) fn helper(&self) -> PathBuf {
        self.run_dir.join("helper")
    }
}
