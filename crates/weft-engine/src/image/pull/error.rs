//! Why a pull failed, in Docker's words.

use std::io;
use std::sync::Arc;

use weft_types::{Classified, ErrorKind};

use crate::error::EngineError;
use crate::image::digest::Digest;
use crate::image::registry::{RefusalCode, RegistryError};

/// A pull failed; no name was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    /// The registry has no such manifest.
    #[error("manifest for {name} not found: {source}")]
    NoManifest { name: String, source: RegistryError },
    /// The registry has no such repository.
    #[error("repository {repository} not found: {source}")]
    NoRepository { repository: String, source: RegistryError },
    /// Without credentials, or with these, the repository is not shown.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {source}"
    )]
    AccessDenied { repository: String, source: RegistryError },
    /// Anything else from the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The list of manifests has none for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// A wish for a platform that is none.
    #[error("{0:?}: invalid platform")]
    BadPlatform(String),
    /// A document of the image is not what it claims to be.
    #[error("malformed {what}: {source}")]
    Malformed { what: &'static str, source: serde_json::Error },
    /// A kind of manifest that nobody should use any more, or no image at all.
    #[error("unsupported manifest media type {0:?}")]
    Unsupported(String),
    /// The configuration's bytes have another digest.
    #[error("image config verification failed for digest {0}")]
    ConfigDigest(Digest),
    /// A layer's bytes have another digest.
    #[error("filesystem layer verification failed for digest {0}")]
    LayerDigest(Digest),
    /// Manifest and configuration count layers differently.
    #[error("layers from manifest don't match image configuration")]
    LayerCount,
    /// Writing what was downloaded failed.
    #[error("write layer {layer}: {source}")]
    Write { layer: Digest, source: io::Error },
    /// Unpacking or keeping it failed.
    #[error("failed to register layer: {0}")]
    Store(EngineError),
    /// Another pull was downloading the layer and went away.
    #[error("context canceled")]
    Canceled,
    /// What another pull, which brought the same layer, found.
    #[error(transparent)]
    Shared(Arc<PullError>),
}

impl PullError {
    /// What a registry's answer to the question for a manifest means to the user.
    pub(super) fn of_manifest(error: RegistryError, repository: &str, name: &str) -> Self {
        let code = if let RegistryError::Refused { code, .. } = &error { Some(*code) } else { None };
        let repository = repository.to_owned();
        match code {
            Some(RefusalCode::Denied) => Self::AccessDenied { repository, source: error },
            Some(RefusalCode::ManifestUnknown) => Self::NoManifest { name: name.to_owned(), source: error },
            Some(RefusalCode::NameUnknown) => Self::NoRepository { repository, source: error },
            _ => Self::Registry(error),
        }
    }
}

impl Classified for PullError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoManifest { .. }
            | Self::NoRepository { .. }
            | Self::AccessDenied { .. }
            | Self::NoPlatform(_) => ErrorKind::NotFound,
            Self::BadPlatform(_) => ErrorKind::InvalidParameter,
            Self::Registry(RegistryError::Refused { code: RefusalCode::ManifestUnknown, .. }) => {
                ErrorKind::NotFound
            }
            Self::Shared(error) => error.kind(),
            _ => ErrorKind::System,
        }
    }
}
