//! Secrets: files that only the nodes of tasks that need them see.

use std::sync::Arc;

use weft_types::SecretId;
use weft_wire::swarmkit::{Annotations, Secret, SecretSpec};

use super::find::{self, Named};
use super::{Control, files};
use crate::error::{ControlError, SpecProblem};
use crate::store::{Claim, ObjectKind, View, version_of};

const KIND: &str = "secret";
/// SwarmKit's limit, in bytes.
const MAX_SIZE: usize = 500 * 1024;

impl Control {
    /// All secrets, contents included.
    pub fn secrets(&self) -> Vec<Arc<Secret>> {
        self.view().secrets().cloned().collect()
    }

    /// A secret by full id, exact name, or unique prefix of its id.
    pub fn secret(&self, term: &str) -> Result<Arc<Secret>, ControlError> {
        find(&self.view(), term)
    }

    /// Stores a secret.
    pub async fn create_secret(&self, spec: SecretSpec) -> Result<Arc<Secret>, ControlError> {
        check(&spec)?;
        let id = SecretId::random(&mut rand::rng()).to_string();
        (self.brain.core)
            .change(|view, transaction| {
                let name = name_of(&spec);
                if view.secret_named(name).is_some() {
                    return Err(ControlError::FileExists { kind: KIND, name: name.to_owned() });
                }
                transaction.claim(&Claim::name(ObjectKind::Secret, name), &id);
                transaction.create(Secret { id: id.clone(), spec: Some(spec.clone()), ..Default::default() });
                Ok(())
            })
            .await?;
        tracing::info!(secret = id, "created a secret");
        find(&self.view(), &id)
    }

    /// Changes the labels of a secret, if it still is at `version`. Nothing else of it ever changes.
    pub async fn update_secret(
        &self,
        id: &str,
        version: u64,
        spec: SecretSpec,
    ) -> Result<Arc<Secret>, ControlError> {
        (self.brain.core)
            .change(|view, transaction| {
                let secret = view.secret(id).ok_or_else(|| ControlError::NoSuchSecret(id.to_owned()))?;
                let known = secret.spec.clone().unwrap_or_default();
                let same_data = spec.data.is_empty() || spec.data == known.data;
                if name_of(&spec) != name_of(&known) || !same_data {
                    return Err(ControlError::InvalidSpec(SpecProblem::LabelsOnly));
                }
                if version_of(secret.meta.as_ref()) != version {
                    return Err(ControlError::OutOfSequence);
                }
                let labels = spec.annotations.clone().unwrap_or_default().labels;
                let annotations = Annotations { labels, ..known.annotations.unwrap_or_default() };
                let spec = SecretSpec { annotations: Some(annotations), ..known };
                transaction.update(Secret { spec: Some(spec), ..Secret::clone(secret) });
                Ok(())
            })
            .await?;
        find(&self.view(), id)
    }

    /// Removes a secret that no service uses.
    pub async fn remove_secret(&self, term: &str) -> Result<(), ControlError> {
        (self.brain.core)
            .change(|view, transaction| {
                let secret = find(view, term)?;
                let name = secret.spec.as_ref().map_or("", name_of);
                files::check_unused(view, KIND, name, |container| {
                    container.secrets.iter().any(|reference| reference.secret_id == secret.id)
                })?;
                // A service that begins to use it meanwhile requires it at its version: one of the two is refused.
                transaction.remove(ObjectKind::Secret, &secret.id, version_of(secret.meta.as_ref()));
                Ok::<_, ControlError>(())
            })
            .await?;
        tracing::info!(secret = term, "removed a secret");
        Ok(())
    }
}

fn check(spec: &SecretSpec) -> Result<(), ControlError> {
    files::check_name(spec.annotations.as_ref())?;
    if let Some(driver) = &spec.driver {
        let unnamed = || ControlError::InvalidSpec(SpecProblem::SecretDriver);
        return if driver.name.is_empty() { Err(unnamed()) } else { Ok(()) };
    }
    files::check_size(KIND, &spec.data, MAX_SIZE)
}

fn find(view: &View, term: &str) -> Result<Arc<Secret>, ControlError> {
    let exact = view.secret(term).or_else(|| view.secret_named(term));
    find::object(exact, view.secrets(), term, ControlError::NoSuchSecret)
}

fn name_of(spec: &SecretSpec) -> &str {
    spec.annotations.as_ref().map_or("", |annotations| annotations.name.as_str())
}

impl Named for Secret {
    const KIND: &'static str = KIND;
    fn id(&self) -> &str {
        &self.id
    }
}
