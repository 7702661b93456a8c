//! A client of image registries (OCI distribution specification): manifests, blobs, tags, for one repository.
//!
//! Written on hyper, which the API server needs anyway: Docker's exact errors, progress and resumed downloads want
//! the requests in hand. Not done here: pushing, proxies, client certificates.

mod auth;
mod challenge;
mod client;
mod endpoint;
mod error;
mod tls;
mod transport;

pub use auth::RegistryAuth;
pub(crate) use client::{Manifest, Registry};
pub(crate) use endpoint::{Registries, RepositoryPath};
pub(crate) use error::{RefusalCode, RegistryError};
