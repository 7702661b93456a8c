//! Why a push failed, in Docker's words.

use std::io;

use crate::error::EngineError;
use crate::image::digest::Digest;
use crate::image::registry::RegistryError;

/// A push failed; what had been sent may stay in the registry, where nothing names it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    /// No image has this repository in a name.
    #[error("An image does not exist locally with the tag: {0}")]
    NoImage(String),
    /// The repository has names here, but not with this tag.
    #[error("tag does not exist: {0}")]
    NoTag(String),
    /// The repository only has digests here.
    #[error("no tags to push for {0}")]
    NoTags(String),
    /// A digest follows from what is pushed; it cannot be wished for.
    #[error("cannot push a digest reference")]
    DigestGiven,
    /// The registry wants a password, and there is none.
    #[error("no basic auth credentials")]
    NoCredentials,
    /// Anything else from the registry.
    #[error(transparent)]
    Registry(RegistryError),
    /// The image is not whole.
    #[error("failed to get layer {layer}: {source}")]
    Layer { layer: Digest, source: EngineError },
    /// The image is not whole.
    #[error("could not find image from tag {name}: {source}")]
    Config { name: String, source: EngineError },
    /// Compressing failed.
    #[error("compress layer {layer}: {source}")]
    Compress { layer: Digest, source: io::Error },
    /// The names here could not be written.
    #[error(transparent)]
    Names(EngineError),
    /// The daemon ends.
    #[error("context canceled")]
    Canceled,
}

impl From<RegistryError> for PushError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NoCredentials(_) => Self::NoCredentials,
            other => Self::Registry(other),
        }
    }
}
