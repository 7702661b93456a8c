//! Content addresses: `sha256:` and 64 hexadecimal digits.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

/// The SHA-256 of some content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(String);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(digest(&SHA256, bytes)))
    }

    /// The 64 digits: safe as a file name.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }

    /// Docker's short form.
    pub(crate) fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for Digest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Ok(Self(hex.to_owned()))
            }
            _ => Err(format!("invalid digest {text:?}")),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// The digest of content that comes in pieces.
#[derive(Clone)]
pub(crate) struct Hasher(Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(hex::encode(self.0.finish()))
    }
}

/// Reads through, hashing what passes and copying it to a second place.
pub(crate) struct HashingReader<R, W> {
    inner: R,
    copy: W,
    hasher: Hasher,
    /// Bytes that have passed.
    pub(crate) size: u64,
}

impl<R: Read, W: Write> HashingReader<R, W> {
    pub(crate) fn new(inner: R, copy: W) -> Self {
        Self { inner, copy, hasher: Hasher::default(), size: 0 }
    }

    /// Reads the rest; the digest of everything and the copy.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64, W)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.hasher.finish(), self.size, self.copy))
    }
}

impl<R: Read, W: Write> Read for HashingReader<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.copy.write_all(&buffer[..count])?;
        self.size += count as u64;
        Ok(count)
    }
}
