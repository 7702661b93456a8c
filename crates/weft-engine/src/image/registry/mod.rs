//! A client of image registries (OCI distribution specification): manifests, blobs, tags, for one repository.
//!
//! Written on hyper, which the API server needs anyway: Docker's exact errors, progress and resumed downloads want
//! the requests in hand. Not done here: proxies, client certificates.

mod auth;
mod challenge;
mod client;
mod endpoint;
mod error;
mod login;
mod payload;
mod session;
mod tls;
mod token;
mod transport;
mod upload;

pub use auth::RegistryAuth;
pub(crate) use client::{Access, Manifest, Registry};
pub(crate) use endpoint::{Registries, RepositoryPath};
pub(crate) use error::{RefusalCode, RegistryError};
pub(crate) use login::login;
pub(crate) use payload::UploadFile;
pub(crate) use upload::{Mounted, UploadPlace};
