//! An image as a registry serves it.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::busybox_image;

pub(crate) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Compressed layers, configuration and manifest.
#[derive(Clone)]
pub(crate) struct SampleImage {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl SampleImage {
    /// Busybox and, in a second layer, the file `/data/words` with these words.
    pub(crate) fn with_words(words: &str) -> Self {
        Self::for_architecture(words, if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" })
    }

    pub(crate) fn for_architecture(words: &str, architecture: &str) -> Self {
        let mut upper = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(words.len() as u64);
        header.set_mode(0o644);
        upper.append_data(&mut header, "data/words", words.as_bytes()).unwrap();
        let plain = [busybox_image(), upper.into_inner().unwrap()];
        let layers: Vec<Vec<u8>> = plain.iter().map(|layer| gzip(layer)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["cat", "/data/words"]},
            "rootfs": {"type": "layers", "diff_ids": plain.iter().map(|layer| digest(layer)).collect::<Vec<_>>()},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.docker.container.image.v1+json", &config),
            "layers": layers.iter().map(|layer| descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)).collect::<Vec<_>>(),
        });
        Self { layers, config, manifest: serde_json::to_vec(&manifest).unwrap() }
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.layers.iter().chain([&self.config])
    }
}

/// A list of images for platforms `linux/…`.
pub(crate) fn index_of(images: &[(&SampleImage, &str)]) -> Vec<u8> {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(image, architecture)| {
            let mut entry = descriptor(MANIFEST, &image.manifest);
            entry["platform"] = json!({"architecture": architecture, "os": "linux"});
            entry
        })
        .collect();
    serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})).unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}
