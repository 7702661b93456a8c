//! The engine: local containers of one daemon. Public operations live in the submodules by theme.
//!
//! State on disk is `containers/<id>/container.json` below the data root; it is written before a change shows.
//! A running container has a bundle `containers/<id>` below the exec root with the socket of its shim.

mod adopt;
mod attach;
mod commit;
mod create;
mod exec;
mod exit;
mod files;
mod health;
mod inspect;
mod list;
mod logs;
mod networks;
mod remove;
mod start;
mod stats;
mod stop;
mod update;

use inspect::directory_size;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use weft_types::ContainerId;

use self::exec::Execs;
pub use self::stats::StatsStream;
use crate::apparmor::AppArmor;
pub(crate) use crate::blocking::blocking;
use crate::cgroup::Hierarchies;
use crate::config::EngineConfig;
use crate::container::live::Container;
use crate::error::EngineError;
use crate::events::{Event, EventBus, EventType};
use crate::image::{Digest, ImageUser, ImageUsers, Images, Registries};
use crate::network::ContainerNetwork;
use crate::spec::filter::SyscallFilters;
use crate::volumes::Volumes;

pub(crate) type Result<T> = std::result::Result<T, EngineError>;

/// Local containers and images of one daemon.
pub struct Engine {
    config: EngineConfig,
    network: Arc<dyn ContainerNetwork>,
    images: Images,
    volumes: Volumes,
    events: EventBus,
    hierarchies: Hierarchies,
    apparmor: AppArmor,
    filters: SyscallFilters,
    registry: Arc<Mutex<Registry>>,
    execs: Execs,
    /// Cancelled when the engine lets go of its containers.
    closing: CancellationToken,
    /// No restart policy acts any more.
    shutting_down: AtomicBool,
}

/// All containers.
#[derive(Default)]
pub(crate) struct Registry {
    containers: BTreeMap<ContainerId, Arc<Container>>,
    /// Reserved names: a name is taken before its container is made.
    names: BTreeMap<String, ContainerId>,
}

impl Registry {
    /// What a user means: full id, name, or unique prefix of an id.
    fn find(&self, term: &str) -> Result<Arc<Container>> {
        let missing = || EngineError::NoSuchContainer(term.to_owned());
        if let Some(container) = term.parse().ok().and_then(|id: ContainerId| self.containers.get(&id)) {
            return Ok(container.clone());
        }
        let name = term.strip_prefix('/').unwrap_or(term);
        if let Some(container) = self.names.get(name).and_then(|id| self.containers.get(id)) {
            return Ok(container.clone());
        }
        if term.is_empty() {
            return Err(missing());
        }
        let mut matches = self.containers.iter().filter(|(id, _)| id.as_str().starts_with(term));
        match (matches.next(), matches.next()) {
            (Some((_, container)), None) => Ok(container.clone()),
            (Some(_), Some(_)) => Err(EngineError::AmbiguousPrefix(term.to_owned())),
            (None, _) => Err(missing()),
        }
    }
}

/// Tells the images who uses them.
struct Users(Arc<Mutex<Registry>>);

impl ImageUsers for Users {
    fn users_of(&self, image: &Digest) -> Vec<ImageUser> {
        let registry = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let records = registry.containers.values().map(|container| container.record());
        records
            .filter(|record| record.image == *image)
            .map(|record| ImageUser {
                container: record.id.short().to_owned(),
                running: record.state.is_running(),
            })
            .collect()
    }

    fn layers(&self) -> BTreeSet<Digest> {
        let registry = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        registry
            .containers
            .values()
            .flat_map(|container| container.with(|record| record.layers.clone()))
            .collect()
    }
}

impl Engine {
    /// Opens the state below the configured roots and adopts the containers that still run.
    ///
    /// With live-restore they go on. Without, they are stopped with their grace period, as dockerd does with what it
    /// finds running; then restart policies act.
    pub async fn open(config: EngineConfig, network: Arc<dyn ContainerNetwork>) -> Result<Arc<Self>> {
        let events = EventBus::new();
        let registries = Registries::new(&config.insecure_registries);
        let images = Images::open(config.data_root.join("image"), registries, events.clone())?;
        let volumes = Volumes::open(config.data_root.join("volumes"), events.clone())?;
        for dir in [config.data_root.join("containers"), config.exec_root.join("containers")] {
            make_private(dir)?;
        }
        let hierarchies = Hierarchies::read().map_err(EngineError::file("read", "/proc/self/mountinfo"))?;
        let registry = Arc::new(Mutex::new(Registry::default()));
        images.set_users(Arc::new(Users(registry.clone())));
        let engine = Arc::new(Self {
            config,
            network,
            images,
            volumes,
            events,
            hierarchies,
            apparmor: AppArmor::of_kernel(),
            filters: SyscallFilters::default(),
            registry,
            execs: Execs::default(),
            closing: CancellationToken::new(),
            shutting_down: AtomicBool::new(false),
        });
        engine.restore().await?;
        Ok(engine)
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// Whether containers are confined by AppArmor: the kernel has it.
    pub fn has_apparmor(&self) -> bool {
        self.apparmor.is_enabled()
    }

    /// Everything that happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Full id of the container meant by an id, name or unique prefix.
    pub fn container_id(&self, term: &str) -> Result<ContainerId> {
        Ok(self.find(term)?.id.clone())
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn find(&self, term: &str) -> Result<Arc<Container>> {
        self.registry().find(term)
    }

    fn containers(&self) -> Vec<Arc<Container>> {
        self.registry().containers.values().cloned().collect()
    }

    fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.config.data_root.join("containers").join(id.as_str())
    }

    fn bundle_dir(&self, id: &ContainerId) -> PathBuf {
        self.config.exec_root.join("containers").join(id.as_str())
    }

    fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::SeqCst)
    }

    /// Sends an event of a container with more attributes.
    fn container_event(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        let mut attributes = container.with(|record| record.event_attributes());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.events.send(EventType::Container, action, container.id.as_str(), attributes);
    }
}

/// Makes a directory that only root may look into.
fn make_private(dir: PathBuf) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o710)
        .create(&dir)
        .map_err(EngineError::file("create", dir))
}

/// The time as Docker writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}
