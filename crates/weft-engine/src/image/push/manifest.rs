//! The manifest of a pushed image: Docker's second schema, byte for byte as Docker writes it, so that the same layers
//! have the same digest whoever pushes them; or OCI's where the layers are.

use serde::Serialize;

use crate::image::digest::Digest;
use crate::image::oci::Descriptor;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(super) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A manifest ready to be sent.
pub(super) struct Manifest {
    pub(super) media_type: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// The order of its members is Docker's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Part<'a>,
    layers: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a Digest,
}

impl Manifest {
    /// Of a configuration (digest, length in bytes) and layers, lowest first.
    pub(super) fn new(config: (&Digest, u64), layers: &[Descriptor]) -> Self {
        let oci = layers.iter().any(|layer| !is_gzip(layer))
            || (!layers.is_empty() && layers.iter().all(|layer| layer.media_type == OCI_GZIP));
        let (manifest, config_type, gzip) = if oci {
            (OCI_MANIFEST, OCI_CONFIG, OCI_GZIP)
        } else {
            (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER)
        };
        let layers = layers.iter().map(|layer| Part {
            media_type: if is_gzip(layer) { gzip } else { &layer.media_type },
            size: layer.size,
            digest: &layer.digest,
        });
        let document = Document {
            schema_version: 2,
            media_type: manifest,
            config: Part { media_type: config_type, size: config.1, digest: config.0 },
            layers: layers.collect(),
        };
        let mut bytes = Vec::new();
        let indented = serde_json::ser::PrettyFormatter::with_indent(b"   ");
        // Numbers and text into memory: nothing of it can fail.
        let _ = document.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, indented));
        Self { media_type: manifest, bytes }
    }
}

/// Both schemas have a name of their own for it.
fn is_gzip(layer: &Descriptor) -> bool {
    matches!(layer.media_type.as_str(), DOCKER_LAYER | OCI_GZIP | "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(media_type.as_bytes()),
            size: 1_083_528,
            annotations: None,
            platform: None,
        }
    }

    fn manifest(layers: &[&str]) -> (String, String) {
        let layers: Vec<Descriptor> = layers.iter().map(|kind| layer(kind)).collect();
        let made = Manifest::new((&Digest::of(b"config"), 838), &layers);
        (made.media_type.to_owned(), String::from_utf8(made.bytes).unwrap())
    }

    #[test]
    fn it_is_written_as_docker_writes_it() {
        let (media_type, text) = manifest(&[DOCKER_LAYER]);
        assert_eq!(media_type, DOCKER_MANIFEST);
        // What dockerd tells of an image with one layer: lengths of three and of seven digits.
        assert_eq!(text.len(), 527);
        assert!(
            text.starts_with("{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.docker"),
            "{text}"
        );
        assert!(
            text.contains("      {\n         \"mediaType\": \"application/vnd.docker.image.rootfs"),
            "{text}"
        );
    }

    #[test]
    fn a_layer_that_only_oci_knows_decides() {
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        assert_eq!(manifest(&[OCI_GZIP]).0, OCI_MANIFEST);
        assert_eq!(manifest(&[OCI_GZIP, DOCKER_LAYER]).0, DOCKER_MANIFEST);
        let (media_type, text) = manifest(&[zstd, DOCKER_LAYER]);
        assert_eq!(media_type, OCI_MANIFEST);
        assert!(text.contains(zstd) && text.contains(OCI_GZIP) && !text.contains("docker"), "{text}");
        assert_eq!(manifest(&[]).0, DOCKER_MANIFEST);
    }
}
