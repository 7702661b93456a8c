//! Creating and renaming.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_stubs::models::{ContainerCreateBody, EndpointSettings, HostConfigCgroupnsModeEnum};
use weft_types::{ContainerId, ObjectName};

use super::{Engine, Result, blocking, now};
use crate::container::create::{Request, mounts};
use crate::container::live::Container;
use crate::container::record::{MountKind, MountRecord, Record, RunState};
use crate::error::EngineError;
use crate::options::Created;
use crate::shim::bundle::Bundle;

/// Marks a container as a task of a service.
pub(super) const TASK_LABEL: &str = "com.docker.swarm.task.id";

impl Engine {
    /// Creates a container.
    pub async fn create(self: &Arc<Self>, name: Option<&str>, body: ContainerCreateBody) -> Result<Created> {
        let mut request = Request::split(body);
        let image_name = request.config.image.clone().unwrap_or_default();
        if image_name.is_empty() {
            return Err(EngineError::Invalid("no image specified".to_owned()));
        }
        let image = self.images.for_container(&image_name)?;
        // Of the user's wishes alone: what the image exposes is in nobody's way.
        let mut warnings = request.check_network_mode()?;
        if request.host.oom_kill_disable == Some(true) && self.hierarchies.is_pure_v2() {
            request.host.oom_kill_disable = None;
            let text = "Your kernel does not support OomKillDisable. OomKillDisable discarded.";
            warnings.push(text.to_owned());
        }
        request.merge_image(&image.config)?;
        let (path, args) = request.command()?;
        self.apply_log_defaults(&mut request);
        warnings.extend(request.check(self.config.default_shm_size)?);
        self.fill_cgroup_namespace(&mut request);
        self.check_networks(&mut request)?;
        let id = ContainerId::random(&mut rand::rng());
        let name = self.reserve_name(name, &id)?;
        fill_hostname(&mut request, &id);
        let lent = self.lent_mounts(request.host.volumes_from.as_deref().unwrap_or_default());
        let lent = lent.inspect_err(|_| drop(self.registry().names.remove(&name)))?;
        let (engine, own_id, own_name) = (self.clone(), id.clone(), name.clone());
        // Waits for the disk: beside the event loop.
        let made = blocking(move || {
            let mounts = mounts(&request, lent, &engine.volumes)?;
            let record = Record {
                id: own_id,
                name: own_name,
                created: now(),
                image: image.id,
                image_name,
                layers: image.layers,
                config: request.config,
                host: request.host,
                endpoints: request.endpoints,
                mounts,
                path,
                args,
                state: RunState::default(),
                sandbox: None,
                connected: Default::default(),
            };
            engine.store(record)
        });
        match made.await {
            Ok(container) => {
                self.registry().containers.insert(id.clone(), container.clone());
                self.container_event(&container, "create", &[]);
                Ok(Created { id, warnings })
            }
            Err(error) => {
                self.registry().names.remove(&name);
                let _ = std::fs::remove_dir_all(self.container_dir(&id));
                Err(error)
            }
        }
    }

    /// What `--volumes-from CONTAINER[:ro|rw]` brings along: all volumes and binds of those containers.
    fn lent_mounts(&self, containers: &[String]) -> Result<Vec<MountRecord>> {
        let mut lent = Vec::new();
        for wanted in containers {
            let (term, mode) = wanted.split_once(':').unwrap_or((wanted, "rw"));
            if !mode.split(',').all(|option| matches!(option, "ro" | "rw" | "z" | "Z" | "nocopy")) {
                return Err(EngineError::Invalid(format!("invalid mode for volumes-from: {mode}")));
            }
            let other = self.find(term).map_err(|error| EngineError::Invalid(error.to_string()))?;
            let mounts = other.with(|record| record.mounts.clone());
            lent.extend(mounts.into_iter().filter(|mount| mount.kind != MountKind::Tmpfs).map(|mount| {
                let writable = mount.writable && !mode.split(',').any(|option| option == "ro");
                // Its content is the other's: the image's does not come into it.
                MountRecord { writable, no_copy: true, ..mount }
            }));
        }
        Ok(lent)
    }

    fn store(&self, record: Record) -> Result<Arc<Container>> {
        let dir = self.container_dir(&record.id);
        super::make_private(dir.clone())?;
        let bundle = Bundle::new(self.bundle_dir(&record.id));
        let lower = self.images.lower_directories(&record.layers);
        record.save(&dir, None)?;
        let container = Container::new(record, dir, bundle);
        container.rootfs().create(&lower)?;
        Ok(Arc::new(container))
    }

    /// Options of the daemon apply where the container has none of its own.
    fn apply_log_defaults(&self, request: &mut Request) {
        let log = request.host.log_config.get_or_insert_default();
        if log.typ.as_deref().unwrap_or_default().is_empty() {
            let options: HashMap<_, _> = self.config.log_options.clone().into_iter().collect();
            log.config.get_or_insert(options);
        }
    }

    /// Of its own only where there is but one hierarchy, as with Docker.
    fn fill_cgroup_namespace(&self, request: &mut Request) {
        let mode = &mut request.host.cgroupns_mode;
        if matches!(mode, None | Some(HostConfigCgroupnsModeEnum::EMPTY)) {
            *mode = Some(match self.hierarchies.is_pure_v2() {
                true => HostConfigCgroupnsModeEnum::PRIVATE,
                false => HostConfigCgroupnsModeEnum::HOST,
            });
        }
    }

    /// The first network is that of the network mode; wishes for it may be given under its name, id, or `default`.
    fn check_networks(&self, request: &mut Request) -> Result<()> {
        if request.config.network_disabled == Some(true) {
            request.host.network_mode = Some("none".to_owned());
        }
        let (mode, given) = match request.host.network_mode.as_deref() {
            None | Some("" | "default") => ("bridge".to_owned(), false),
            Some(mode) => (mode.to_owned(), true),
        };
        request.host.network_mode = Some(mode.clone());
        if let Some(other) = mode.strip_prefix("container:") {
            request.endpoints.clear();
            if let Ok(other) = self.find(other) {
                request.host.network_mode = Some(format!("container:{}", other.id));
            }
            return Ok(());
        }
        if let Some(settings) = request.endpoints.remove("default") {
            request.endpoints.entry(mode.clone()).or_insert(settings);
        }
        // Who names networks and no mode is on these only, as tasks of services are; it is shown as `bridge` all the same.
        if !given && !request.endpoints.is_empty() {
            return self.check_endpoints(request);
        }
        let display = |name: &str| self.network.display_name(name).unwrap_or_else(|| name.to_owned());
        let wanted = display(&mode);
        if !request.endpoints.keys().any(|name| *name == mode || display(name) == wanted) {
            request.endpoints.insert(mode.clone(), EndpointSettings::default());
        }
        self.check_endpoints(request)
    }

    fn check_endpoints(&self, request: &Request) -> Result<()> {
        for (name, settings) in &request.endpoints {
            self.network.check(name, settings).map_err(|failure| {
                EngineError::Invalid(format!("invalid config for network {name}: {}", failure.message))
            })?;
        }
        Ok(())
    }

    fn reserve_name(&self, name: Option<&str>, id: &ContainerId) -> Result<String> {
        let mut registry = self.registry();
        let name = match name.filter(|name| !name.is_empty()) {
            Some(given) => {
                let plain = given.strip_prefix('/').unwrap_or(given);
                let name: ObjectName = plain.parse().map_err(|_| invalid_name(given))?;
                if let Some(owner) = registry.names.get(name.as_str()) {
                    return Err(EngineError::NameTaken { name: plain.to_owned(), id: owner.to_string() });
                }
                plain.to_owned()
            }
            None => loop {
                let name = crate::names::random_name(&mut rand::rng());
                if !registry.names.contains_key(&name) {
                    break name;
                }
            },
        };
        registry.names.insert(name.clone(), id.clone());
        Ok(name)
    }

    /// Gives it another name.
    pub async fn rename(self: &Arc<Self>, term: &str, new_name: &str) -> Result<()> {
        let container = self.find(term)?;
        let _operation = container.operation.lock().await;
        let old = container.name();
        let plain = new_name.strip_prefix('/').unwrap_or(new_name);
        if plain.is_empty() {
            return Err(EngineError::Invalid("Neither old nor new names may be empty".to_owned()));
        }
        if plain == old {
            return Err(EngineError::Invalid(
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        self.reserve_name(Some(&format!("/{plain}")), &container.id)
            .map_err(|error| error.context("Error when allocating new name"))?;
        if let Err(error) = container.update(|record| rename(record, plain)) {
            self.registry().names.remove(plain);
            return Err(error);
        }
        self.registry().names.remove(&old);
        if let Err(error) = self.network.rename(&container.id, plain).await {
            tracing::warn!(container = %container.id, %error, "other containers still know it by its old name");
        }
        self.container_event(&container, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }
}

/// With the host's network the host's name is shown unless another was asked for.
fn fill_hostname(request: &mut Request, id: &ContainerId) {
    let given = request.config.hostname.as_deref().is_some_and(|name| !name.is_empty());
    if given || request.host.uts_mode.as_deref() == Some("host") {
        return;
    }
    let name = match request.host.network_mode.as_deref() {
        Some("host") => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        _ => id.short().to_owned(),
    };
    request.config.hostname = Some(name);
}

/// The names of its endpoints follow.
fn rename(record: &mut Record, name: &str) {
    let old = std::mem::replace(&mut record.name, name.to_owned());
    let shown = record.connected.values_mut().filter_map(|endpoint| endpoint.dns_names.as_mut()).flatten();
    shown.filter(|shown| **shown == old).for_each(|shown| name.clone_into(shown));
}

fn invalid_name(given: &str) -> EngineError {
    EngineError::Invalid(format!(
        "Invalid container name ({given}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    ))
}
