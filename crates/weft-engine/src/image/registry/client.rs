//! What is asked of one repository of a registry.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyStream;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RANGE};
use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::auth::RegistryAuth;
use super::endpoint::{Registries, RepositoryPath};
use super::error::RegistryError;
use super::session::{Ask, Result, SILENCE_MAX, Session, document, silent};
use crate::image::Digest;

/// Manifests that are understood, for the `Accept` header.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
}

/// What is done with a repository: decides what is asked for before the first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// A repository to pull from or push to.
pub(crate) struct Registry {
    pub(super) session: Session,
    pub(super) repository: String,
    pub(super) scopes: Vec<String>,
}

impl Registry {
    /// Finds out how the registry is spoken to.
    pub(crate) async fn open(
        registries: &Registries,
        repository: &RepositoryPath,
        auth: &RegistryAuth,
        access: Access,
    ) -> Result<Self> {
        let session = Session::open(registries, &repository.authority, auth).await?;
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scopes = vec![format!("repository:{}:{actions}", repository.path)];
        Ok(Self { session, repository: repository.path.clone(), scopes })
    }

    /// The manifest behind a tag or digest; what was asked for by digest has it.
    pub(crate) async fn manifest(&self, reference: &str) -> Result<Manifest> {
        let url = self.url("manifests", reference);
        let mut ask = self.get(&url);
        ask.headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
        let answer = self.session.ask(ask).await?;
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        let bytes = document(&url, answer).await?;
        let digest = Digest::of(&bytes);
        match reference.parse::<Digest>() {
            Ok(wanted) if wanted != digest => Err(RegistryError::ManifestDigest(wanted)),
            _ => Ok(Manifest { bytes, media_type, digest }),
        }
    }

    /// All tags of the repository.
    pub(crate) async fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let url = self.url("tags", "list");
        let bytes = document(&url, self.session.ask(self.get(&url)).await?).await?;
        let tags: Tags = serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::Malformed { url, detail: error.to_string() })?;
        Ok(tags.tags.unwrap_or_default())
    }

    /// A small blob, whole. Its digest is for the caller to check.
    pub(crate) async fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let url = self.url("blobs", &digest.to_string());
        document(&url, self.session.ask(self.get(&url)).await?).await
    }

    /// A blob from byte `from` on, if the registry can do that: else from the start. Answers where it begins.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Result<(u64, impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>)> {
        let url = self.url("blobs", &digest.to_string());
        let mut ask = self.get(&url);
        if from > 0
            && let Ok(range) = format!("bytes={from}-").parse()
        {
            ask.headers.insert(RANGE, range);
        }
        let answer = self.session.ask(ask).await?;
        let start = if answer.status() == StatusCode::PARTIAL_CONTENT { from } else { 0 };
        Ok((start, chunks(url, answer.into_body())))
    }

    fn get<'a>(&'a self, url: &'a str) -> Ask<'a> {
        Ask::new(Method::GET, url, &self.scopes)
    }

    pub(super) fn url(&self, kind: &str, reference: &str) -> String {
        format!("{}/v2/{}/{kind}/{reference}", self.session.base, self.repository)
    }
}

fn chunks(url: String, body: Incoming) -> impl Stream<Item = Result<Bytes>> + Send + Unpin {
    let frames = BodyStream::new(body);
    Box::pin(futures_util::stream::unfold(Some(frames), move |frames| {
        let url = url.clone();
        async move {
            let mut frames = frames?;
            loop {
                return match tokio::time::timeout(SILENCE_MAX, frames.next()).await {
                    Ok(None) => None,
                    Ok(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => Some((Ok(data), Some(frames))),
                        Err(_trailers) => continue,
                    },
                    Ok(Some(Err(error))) => {
                        let error = RegistryError::Unreachable { method: "Get", url, source: error.into() };
                        Some((Err(error), None))
                    }
                    Err(_) => Some((Err(silent(&url)), None)),
                };
            }
        }
    }))
}
