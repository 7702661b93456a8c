//! Creating and renaming.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_stubs::models::{ContainerCreateBody, EndpointSettings};
use weft_types::{ContainerId, ObjectName};

use super::{Engine, Result, blocking, now};
use crate::container::create::{Request, mounts};
use crate::container::live::Container;
use crate::container::record::{Record, RunState};
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
        self.check_networks(&mut request)?;
        let id = ContainerId::random(&mut rand::rng());
        let name = self.reserve_name(name, &id)?;
        if request.config.hostname.as_deref().is_none_or(str::is_empty)
            && request.host.uts_mode.as_deref() != Some("host")
        {
            request.config.hostname = Some(id.short().to_owned());
        }
        let (engine, own_id, own_name) = (self.clone(), id.clone(), name.clone());
        // Waits for the disk: beside the event loop.
        let made = blocking(move || {
            let mounts = mounts(&request, &engine.volumes)?;
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
        // A task of a service is on its networks only; the mode is shown as `bridge` all the same.
        let is_task = request.config.labels.iter().flatten().any(|(key, _)| key == TASK_LABEL);
        if is_task && !given && !request.endpoints.is_empty() {
            return self.check_endpoints(request);
        }
        if mode.starts_with("container:") {
            request.endpoints.clear();
            return Ok(());
        }
        if let Some(settings) = request.endpoints.remove("default") {
            request.endpoints.entry(mode.clone()).or_insert(settings);
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
