//! Names of images as users write them, in Docker's familiar short form: `busybox` is `busybox:latest`, and
//! `docker.io/library/busybox:latest` is the same image.

use std::fmt;

use super::digest::Digest;

/// A repository with a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    repository: String,
    tag: String,
}

/// A repository with the digest of a manifest: what a registry served under the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Canonical {
    pub(crate) repository: String,
    pub(crate) digest: Digest,
}

/// What an image is known as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Tag(Reference),
    Digest(Canonical),
}

/// What a user may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Term {
    /// A name with a tag (given or `latest`), or with a digest: that decides, a tag beside it says nothing more.
    Name(Name),
    /// A whole digest.
    Id(Digest),
}

/// Why a text is no image name, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("invalid tag format")]
    Tag,
}

impl Reference {
    /// From a repository and a tag; an empty tag is `latest`.
    pub(crate) fn new(repository: &str, tag: &str) -> Result<Self, ReferenceError> {
        let tag = if tag.is_empty() { "latest" } else { tag };
        let tag_ok = tag.len() <= 128
            && tag.bytes().enumerate().all(|(at, b)| {
                b.is_ascii_alphanumeric() || b == b'_' || (at > 0 && (b == b'.' || b == b'-'))
            });
        if !tag_ok {
            return Err(ReferenceError::Tag);
        }
        Ok(Self { repository: check_repository(repository)?, tag: tag.to_owned() })
    }

    /// From `repository[:tag]`.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => {
                if tag.is_empty() {
                    return Err(ReferenceError::Format);
                }
                (repository, tag)
            }
            _ => (text, ""),
        };
        Self::new(repository, tag).map_err(|error| match error {
            ReferenceError::Tag => ReferenceError::Format,
            other => other,
        })
    }

    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl Canonical {
    /// From `name[:tag]@sha256:…`.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (name, digest) = text.split_once('@').ok_or(ReferenceError::Format)?;
        let digest = digest.parse().map_err(|_| ReferenceError::Format)?;
        Ok(Self { repository: Reference::parse(name)?.repository, digest })
    }
}

impl fmt::Display for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl Name {
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        match text.contains('@') {
            true => Canonical::parse(text).map(Self::Digest),
            false => Reference::parse(text).map(Self::Tag),
        }
    }

    pub(crate) fn repository(&self) -> &str {
        match self {
            Self::Tag(reference) => &reference.repository,
            Self::Digest(canonical) => &canonical.repository,
        }
    }

    pub(crate) fn tag(&self) -> Option<&Reference> {
        if let Self::Tag(reference) = self { Some(reference) } else { None }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(reference) => reference.fmt(f),
            Self::Digest(canonical) => canonical.fmt(f),
        }
    }
}

impl Term {
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        if let Ok(digest) = text.parse() {
            return Ok(Self::Id(digest));
        }
        Name::parse(text).map(Self::Name)
    }
}

/// Checks the characters (distribution reference grammar) and shortens names of Docker Hub.
fn check_repository(text: &str) -> Result<String, ReferenceError> {
    let (domain, path) = match text.split_once('/') {
        // As Docker splits them: a capital letter makes the first part a host name too.
        Some((first, rest)) if is_host(first) || first.bytes().any(|b| b.is_ascii_uppercase()) => {
            (Some(first), rest)
        }
        _ => (None, text),
    };
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        let full =
            if domain.is_none() && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        return Err(ReferenceError::Uppercase(full));
    }
    let component_ok = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    let domain_ok = domain.is_none_or(is_domain);
    if text.len() > 255 || !domain_ok || !path.split('/').all(component_ok) {
        return Err(ReferenceError::Format);
    }
    // A name of 64 hexadecimal digits would hide an id.
    if domain.is_none() && path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ReferenceError::Format);
    }
    Ok(match domain {
        Some("docker.io" | "index.docker.io") => path.strip_prefix("library/").unwrap_or(path).to_owned(),
        Some(domain) => format!("{domain}/{path}"),
        None => path.strip_prefix("library/").unwrap_or(path).to_owned(),
    })
}

/// Whether the first part of a name is that of a registry, and not of a user of Docker Hub.
pub(crate) fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// The long form of a repository, with the registry's name.
pub(crate) fn full_repository(familiar: &str) -> String {
    match familiar.split_once('/') {
        Some((first, _)) if is_host(first) => familiar.to_owned(),
        Some(_) => format!("docker.io/{familiar}"),
        None => format!("docker.io/library/{familiar}"),
    }
}

/// `host[:port]` or `[IPv6][:port]`.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "0"),
    };
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b)),
    };
    host_ok && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_in_the_familiar_form() {
        for (given, shown) in [
            ("busybox", "busybox:latest"),
            ("busybox:1.36", "busybox:1.36"),
            ("docker.io/library/busybox", "busybox:latest"),
            ("10.98.0.254:5000/foo/bar:v1", "10.98.0.254:5000/foo/bar:v1"),
            ("localhost/x", "localhost/x:latest"),
        ] {
            assert_eq!(Reference::parse(given).unwrap().to_string(), shown);
        }
        for (familiar, full) in [
            ("busybox", "docker.io/library/busybox"),
            ("ann/tool", "docker.io/ann/tool"),
            ("localhost/x", "localhost/x"),
            ("10.0.0.1:5000/x", "10.0.0.1:5000/x"),
        ] {
            assert_eq!(full_repository(familiar), full);
        }
    }

    #[test]
    fn a_digest_decides_and_a_tag_beside_it_says_nothing() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for name in ["alpine", "alpine:3.10", "docker.io/library/alpine:3.10"] {
            let Ok(Term::Name(canonical @ Name::Digest(_))) = Term::parse(&format!("{name}@{digest}")) else {
                panic!("{name}")
            };
            assert_eq!(canonical.to_string(), format!("alpine@{digest}"));
        }
        assert!(Term::parse("alpine@sha256:12").is_err());
        assert!(Term::parse(&format!("@{digest}")).is_err());
    }

    #[test]
    fn bad_names_are_refused_in_dockers_words() {
        assert_eq!(
            Reference::parse("BAD").unwrap_err().to_string(),
            "invalid reference format: repository name (library/BAD) must be lowercase"
        );
        assert_eq!(
            Reference::parse("Bad/NAME").unwrap_err().to_string(),
            "invalid reference format: repository name (NAME) must be lowercase"
        );
        for bad in ["", ":", "a:", "-a", "a b", "a:bad/tag", "a//b", "a/../b", "x:.hidden"] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }
}
