//! Images: content store, layers, references.

use bollard_stubs::models::{ImageHistoryResponseItem, ImageDeleteResponseItem, ImageInspect, ImageSummary};
use bytes::Bytes;
use futures_util::Stream;

use crate::error::EngineError;
use crate::options::Filters;

type Result<T> = std::result::Result<T, EngineError>;

/// The images of this host.
pub struct Images {}

#[allow(clippy::todo, unused_variables, reason = "surface first; bodies follow")]
impl Images {
    /// Makes an image of a root file system (`docker import`); its id (`sha256:…`). `changes` are Dockerfile
    /// instructions (`CMD ["sh"]`, `ENV a=b`).
    pub async fn import(
        &self,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
        reference: Option<&str>,
        message: Option<&str>,
        changes: &[String],
    ) -> Result<String> {
        todo!()
    }
    /// Loads an archive of `docker save` or an OCI layout; what to tell the user, line by line
    /// (`Loaded image: a:1`).
    pub async fn load(
        &self,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<Vec<String>> {
        todo!()
    }
    /// Writes an archive of these images to `out`.
    pub async fn save(&self, names: &[String]) -> Result<crate::options::ByteStream> {
        todo!()
    }
    /// Images that match.
    pub fn list(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        todo!()
    }
    /// Everything about one image.
    pub fn inspect(&self, name: &str) -> Result<ImageInspect> {
        todo!()
    }
    /// Its steps, newest first.
    pub fn history(&self, name: &str) -> Result<Vec<ImageHistoryResponseItem>> {
        todo!()
    }
    /// Gives an image a further name.
    pub fn tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        todo!()
    }
    /// Untags, and deletes what has no name left, by Docker's rules.
    pub fn remove(&self, name: &str, force: bool, no_prune: bool) -> Result<Vec<ImageDeleteResponseItem>> {
        todo!()
    }
    /// Deletes unused images; what was deleted and how many bytes that freed.
    pub fn prune(&self, filters: &Filters) -> Result<(Vec<ImageDeleteResponseItem>, i64)> {
        todo!()
    }
}
