//! What registries call a layer: its compressed content there, and in which repositories it was seen.
//!
//! A push need not send what the registry has. Only a memory: what is wrong or missing here costs an upload.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::oci::Descriptor;
use super::store::Store;
use crate::error::EngineError;

/// Forms of one layer that are remembered, the latest first.
const FORMS_MAX: usize = 8;
/// Repositories that are remembered of each.
const REPOSITORIES_MAX: usize = 16;
/// Kinds of content that a manifest of ours may name. Layers that must not be distributed are none of them.
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
];
/// File in a layer's folder.
const FILE: &str = "served.json";

/// One compressed form of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServedLayer {
    pub(crate) digest: Digest,
    /// Of the compressed form, in bytes.
    pub(crate) size: u64,
    pub(crate) media_type: String,
    /// In the familiar form, the latest first.
    pub(crate) repositories: Vec<String>,
}

impl Store {
    fn served_path(&self, layer: &Digest) -> PathBuf {
        self.layer_path(layer).join(FILE)
    }

    /// Forms of a layer in which registries have it.
    pub(crate) fn served(&self, layer: &Digest) -> Vec<ServedLayer> {
        let bytes = fs::read(self.served_path(layer)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Remembers that a repository has a layer in this form, which is known to be that layer. A registry's word for it
    /// is not enough: what it calls the layer would be in images pushed from here.
    pub(crate) fn remember_served(&self, layer: &Digest, blob: &Descriptor, repository: &str) {
        let _placing = self.placing();
        if !self.has_layer(layer) || !MEDIA_TYPES.contains(&blob.media_type.as_str()) {
            return;
        }
        let before = self.served(layer);
        let after = with(before.clone(), blob, repository);
        if after == before {
            return;
        }
        let path = self.served_path(layer);
        let bytes = serde_json::to_vec(&after).unwrap_or_default();
        let written = weft_durable::replace(&path, &bytes, 0o600).map_err(EngineError::file("write", path));
        if let Err(error) = written {
            tracing::warn!(%layer, %error, "a layer's registries are not remembered");
        }
    }

    /// Remembers a further repository, if it is known that this form is the layer.
    pub(crate) fn remember_repository(&self, layer: &Digest, blob: &Descriptor, repository: &str) {
        if self.served(layer).iter().any(|form| form.digest == blob.digest) {
            self.remember_served(layer, blob, repository);
        }
    }
}

fn with(mut forms: Vec<ServedLayer>, blob: &Descriptor, repository: &str) -> Vec<ServedLayer> {
    let at = forms.iter().position(|form| form.digest == blob.digest);
    let mut form = at.map_or_else(
        || ServedLayer {
            digest: blob.digest.clone(),
            size: blob.size,
            media_type: blob.media_type.clone(),
            repositories: Vec::new(),
        },
        |at| forms.remove(at),
    );
    form.repositories.retain(|known| known != repository);
    form.repositories.insert(0, repository.to_owned());
    form.repositories.truncate(REPOSITORIES_MAX);
    forms.insert(0, form);
    forms.truncate(FORMS_MAX);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(content: &str) -> Descriptor {
        Descriptor {
            media_type: "m".to_owned(),
            digest: Digest::of(content.as_bytes()),
            size: content.len() as u64,
            annotations: None,
            platform: None,
        }
    }

    #[test]
    fn the_latest_comes_first_and_nothing_grows_without_end() {
        let forms = with(Vec::new(), &blob("a"), "one");
        let forms = with(forms, &blob("b"), "one");
        let forms = with(forms, &blob("a"), "two");
        let shown: Vec<_> = forms.iter().map(|form| (form.size, form.repositories.join(" "))).collect();
        assert_eq!(shown, [(1, "two one".to_owned()), (1, "one".to_owned())]);
        let many = (0..100).fold(Vec::new(), |forms, n| with(forms, &blob(&n.to_string()), "r"));
        assert_eq!(many.len(), FORMS_MAX);
        let many = (0..100).fold(Vec::new(), |forms, n| with(forms, &blob("a"), &n.to_string()));
        assert_eq!(many[0].repositories.len(), REPOSITORIES_MAX);
    }
}
