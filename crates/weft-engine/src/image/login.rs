//! `docker login`, as far as the daemon has a part in it.

use super::registry::{self, RegistryAuth};
use super::{Images, Result};
use crate::error::EngineError;

impl Images {
    /// Whether the registry that the credentials name takes them. Nothing is kept. Answers with a token to use in
    /// their place, empty if the registry gives none.
    pub async fn login(&self, auth: &RegistryAuth) -> Result<String> {
        registry::login(&self.inner.registries, auth).await.map_err(EngineError::login)
    }
}
