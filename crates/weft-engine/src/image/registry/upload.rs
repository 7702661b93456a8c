//! Pushing (distribution specification, "Push"): blobs that the repository lacks, then the manifest that names them.

use hyper::body::Incoming;
use hyper::header::LOCATION;
use hyper::{Method, Response, StatusCode};

use super::client::Registry;
use super::error::RegistryError;
use super::payload::{Payload, UploadFile};
use super::session::{Ask, Result, failure, resolve};
use super::token::escape;
use crate::image::Digest;

/// A place that the registry keeps for one blob.
pub(crate) struct UploadPlace {
    url: String,
}

/// What a registry says to a blob that it may have elsewhere.
pub(crate) enum Mounted {
    Yes,
    /// The blob has to be sent.
    No(UploadPlace),
}

impl Registry {
    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let url = self.url("blobs", &digest.to_string());
        let answer = self.session.answer(Ask::new(Method::HEAD, &url, &self.scopes)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(failure("HEAD", &url, answer).await),
        }
    }

    /// Has the registry take a blob over from another of its repositories, if it has it there and lets us.
    pub(crate) async fn mount_blob(&self, digest: &Digest, from: &str) -> Result<Mounted> {
        let url = format!(
            "{}?mount={}&from={}",
            self.url("blobs", "uploads/"),
            escape(&digest.to_string()),
            escape(from)
        );
        let mut scopes = self.scopes.clone();
        scopes.push(format!("repository:{from}:pull"));
        let answer = self.session.ask(Ask::new(Method::POST, &url, &scopes)).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(Mounted::Yes),
            _ => Ok(Mounted::No(place(&url, &answer)?)),
        }
    }

    /// Asks for a place to put a blob.
    pub(crate) async fn begin_upload(&self) -> Result<UploadPlace> {
        let url = self.url("blobs", "uploads/");
        let answer = self.session.ask(Ask::new(Method::POST, &url, &self.scopes)).await?;
        place(&url, &answer)
    }

    /// Sends a blob in one piece.
    pub(crate) async fn put_blob(
        &self,
        place: UploadPlace,
        digest: &Digest,
        file: &UploadFile,
    ) -> Result<()> {
        self.put(place, digest, Payload::File(file.clone())).await
    }

    /// Sends a small blob in one piece.
    pub(crate) async fn put_document(&self, digest: &Digest, bytes: Vec<u8>) -> Result<()> {
        let place = self.begin_upload().await?;
        self.put(place, digest, Payload::document("application/octet-stream", bytes)).await
    }

    async fn put(&self, place: UploadPlace, digest: &Digest, payload: Payload) -> Result<()> {
        let separator = if place.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}digest={}", place.url, escape(&digest.to_string()));
        self.session.ask(Ask { payload, ..Ask::new(Method::PUT, &url, &self.scopes) }).await.map(drop)
    }

    /// Puts a manifest, whose blobs are there, under a tag.
    pub(crate) async fn put_manifest(&self, tag: &str, media_type: &str, bytes: Vec<u8>) -> Result<()> {
        let url = self.url("manifests", tag);
        let payload = Payload::document(media_type, bytes);
        self.session.ask(Ask { payload, ..Ask::new(Method::PUT, &url, &self.scopes) }).await.map(drop)
    }
}

fn place(url: &str, answer: &Response<Incoming>) -> Result<UploadPlace> {
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    match location {
        Some(location) => Ok(UploadPlace { url: resolve(url, location) }),
        None => {
            Err(RegistryError::Malformed { url: url.to_owned(), detail: "no place for an upload".to_owned() })
        }
    }
}
