//! Documents that tie an image together (OCI image-spec `manifest.md`, `image-index.md`; Docker's second schema has the
//! same shape). Foreign bytes: only digests have to be there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::document::{Document, architecture};

/// A list of manifests, for several platforms or of an image layout.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    #[serde(rename = "schemaVersion", default)]
    pub(crate) schema_version: u32,
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

/// A piece of content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// One image: its configuration and layers, lowest first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    #[serde(rename = "schemaVersion", default)]
    pub(crate) schema_version: u32,
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

impl Platform {
    /// That of this host.
    pub(crate) fn host() -> Self {
        Self { architecture: architecture().to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// That of an image.
    pub(crate) fn of(document: &Document) -> Self {
        Self {
            architecture: document.architecture.clone(),
            os: document.os.clone(),
            variant: document.variant.clone(),
        }
    }

    /// From `os[/architecture[/variant]]`, as users write it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let known = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || !parts.iter().all(|part| known(part)) {
            return None;
        }
        let host = Self::host();
        let (os, architecture) = match parts[..] {
            ["linux"] => ("linux".to_owned(), host.architecture),
            [architecture] => ("linux".to_owned(), usual_name(architecture)),
            [os, architecture, ..] => (os.to_ascii_lowercase(), usual_name(architecture)),
            [] => return None,
        };
        Some(Self { architecture, os, variant: parts.get(2).map(|variant| (*variant).to_owned()) })
    }

    /// Whether something for `offered` runs here; a variant counts only if both name one.
    pub(crate) fn accepts(&self, offered: &Self) -> bool {
        let same_variant = match (&self.variant, &offered.variant) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.os == offered.os
            && usual_name(&self.architecture) == usual_name(&offered.architecture)
            && same_variant
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Go's name of an architecture.
fn usual_name(architecture: &str) -> String {
    match architecture.to_ascii_lowercase().as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

impl Index {
    /// The manifest for a platform: of several the first, as Docker takes them.
    pub(crate) fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .find(|manifest| manifest.platform.as_ref().is_some_and(|platform| wanted.accepts(platform)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn platforms_are_read_as_users_write_them() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "a/b/c/d", "linux/", "linux /amd64"] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_a_list_the_fitting_manifest_is_taken() {
        let descriptor = |architecture: &str| Descriptor {
            media_type: String::new(),
            digest: Digest::of(architecture.as_bytes()),
            size: 0,
            annotations: None,
            platform: Platform::parse(architecture),
        };
        let index = Index { manifests: vec![descriptor("arm64"), descriptor("amd64")], ..Index::default() };
        let wanted = |text: &str| Platform::parse(text).unwrap();
        assert_eq!(index.choose(&wanted("linux/amd64")).unwrap().digest, Digest::of(b"amd64"));
        assert!(index.choose(&wanted("linux/s390x")).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_a_platform_or_none(text in "[a-z0-9_/]{0,20}|\\PC{0,12}") {
            if let Some(platform) = Platform::parse(&text) {
                prop_assert_eq!(Platform::parse(&platform.to_string()), Some(platform));
            }
        }
    }
}
