//! Configs: files for tasks.

use std::sync::Arc;

use weft_types::ConfigId;
use weft_wire::swarmkit::{Annotations, Config, ConfigSpec};

use super::find::{self, Named};
use super::{Control, files};
use crate::error::{ControlError, SpecProblem};
use crate::store::{Claim, ObjectKind, View, version_of};

const KIND: &str = "config";
/// SwarmKit's limit, in bytes.
const MAX_SIZE: usize = 1000 * 1024;

impl Control {
    /// All configs, contents included.
    pub fn configs(&self) -> Vec<Arc<Config>> {
        self.view().configs().cloned().collect()
    }

    /// A config by full id, exact name, or unique prefix of its id.
    pub fn config(&self, term: &str) -> Result<Arc<Config>, ControlError> {
        find(&self.view(), term)
    }

    /// Stores a config.
    pub async fn create_config(&self, spec: ConfigSpec) -> Result<Arc<Config>, ControlError> {
        check(&spec)?;
        let id = ConfigId::random(&mut rand::rng()).to_string();
        (self.brain.core)
            .change(|view, transaction| {
                let name = name_of(&spec);
                if view.config_named(name).is_some() {
                    return Err(ControlError::FileExists { kind: KIND, name: name.to_owned() });
                }
                transaction.claim(&Claim::name(ObjectKind::Config, name), &id);
                transaction.create(Config { id: id.clone(), spec: Some(spec.clone()), ..Default::default() });
                Ok(())
            })
            .await?;
        tracing::info!(config = id, "created a config");
        find(&self.view(), &id)
    }

    /// Changes the labels of a config, if it still is at `version`. Nothing else of it ever changes.
    pub async fn update_config(
        &self,
        id: &str,
        version: u64,
        spec: ConfigSpec,
    ) -> Result<Arc<Config>, ControlError> {
        (self.brain.core)
            .change(|view, transaction| {
                let config = view.config(id).ok_or_else(|| ControlError::NoSuchConfig(id.to_owned()))?;
                let known = config.spec.clone().unwrap_or_default();
                let same_data = spec.data.is_empty() || spec.data == known.data;
                if name_of(&spec) != name_of(&known) || !same_data {
                    return Err(ControlError::InvalidSpec(SpecProblem::LabelsOnly));
                }
                if version_of(config.meta.as_ref()) != version {
                    return Err(ControlError::OutOfSequence);
                }
                let labels = spec.annotations.clone().unwrap_or_default().labels;
                let annotations = Annotations { labels, ..known.annotations.unwrap_or_default() };
                let spec = ConfigSpec { annotations: Some(annotations), ..known };
                transaction.update(Config { spec: Some(spec), ..Config::clone(config) });
                Ok(())
            })
            .await?;
        find(&self.view(), id)
    }

    /// Removes a config that no service uses.
    pub async fn remove_config(&self, term: &str) -> Result<(), ControlError> {
        (self.brain.core)
            .change(|view, transaction| {
                let config = find(view, term)?;
                let name = config.spec.as_ref().map_or("", name_of);
                files::check_unused(view, KIND, name, |container| {
                    container.configs.iter().any(|reference| reference.config_id == config.id)
                })?;
                // A service that begins to use it meanwhile requires it at its version: one of the two is refused.
                transaction.remove(ObjectKind::Config, &config.id, version_of(config.meta.as_ref()));
                Ok::<_, ControlError>(())
            })
            .await?;
        tracing::info!(config = term, "removed a config");
        Ok(())
    }
}

fn check(spec: &ConfigSpec) -> Result<(), ControlError> {
    files::check_name(spec.annotations.as_ref())?;
    files::check_size(KIND, &spec.data, MAX_SIZE)
}

fn find(view: &View, term: &str) -> Result<Arc<Config>, ControlError> {
    let exact = view.config(term).or_else(|| view.config_named(term));
    find::object(exact, view.configs(), term, ControlError::NoSuchConfig)
}

fn name_of(spec: &ConfigSpec) -> &str {
    spec.annotations.as_ref().map_or("", |annotations| annotations.name.as_str())
}

impl Named for Config {
    const KIND: &'static str = KIND;
    fn id(&self) -> &str {
        &self.id
    }
}
