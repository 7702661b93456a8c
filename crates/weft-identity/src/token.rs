//! Join tokens: `SWMTKN-1-<digest of the root>-<secret>`.
//!
//! The text does not say which role it gives: a manager compares the whole token with those it holds.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, digest};
use rand::RngCore;

use crate::{TokenError, base36};

const PREFIX: &str = "SWMTKN";
/// 32 bytes in base 36.
const DIGEST_DIGITS: usize = 50;
/// 16 bytes in base 36.
const SECRET_DIGITS: usize = 25;

/// SHA-256 over the exact PEM bytes of a root bundle.
pub(crate) fn root_digest(root_pem: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, root_pem).as_ref());
    out
}

/// A secret that lets a machine join a swarm and tells it the swarm's true root.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Present in the form that swarms with mandatory FIPS use, with the value of its flag.
    fips: Option<bool>,
    digest: [u8; 32],
    secret: [u8; 16],
}

impl JoinToken {
    /// A new token for the swarm with this root bundle.
    pub fn generate(rng: &mut impl RngCore, root_pem: &str) -> Self {
        let mut secret = [0u8; 16];
        rng.fill_bytes(&mut secret);
        Self { fips: None, digest: root_digest(root_pem.as_bytes()), secret }
    }

    /// The same secret under another root: what a token becomes when the root is rotated.
    pub fn with_root(&self, root_pem: &str) -> Self {
        Self { digest: root_digest(root_pem.as_bytes()), ..self.clone() }
    }

    /// Checks that `root_pem` is the root that the token was made for.
    pub fn check_root(&self, root_pem: &[u8]) -> Result<(), TokenError> {
        if root_digest(root_pem) == self.digest {
            Ok(())
        } else {
            Err(TokenError::DigestMismatch { expected: hex(&self.digest) })
        }
    }

    /// Whether the swarm demands FIPS cryptography of its members.
    pub fn requires_fips(&self) -> bool {
        self.fips == Some(true)
    }

    /// Whether both texts are the same, in time that does not depend on where they differ.
    pub fn text_matches(&self, presented: &str) -> bool {
        constant_time::verify_slices_are_equal(self.to_string().as_bytes(), presented.as_bytes()).is_ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.split('-').collect();
        let (fips, digest, secret) = match parts[..] {
            [PREFIX, "1", digest, secret] => (None, digest, secret),
            [PREFIX, "2", "0", digest, secret] => (Some(false), digest, secret),
            [PREFIX, "2", "1", digest, secret] => (Some(true), digest, secret),
            _ => return Err(TokenError::Malformed),
        };
        if digest.len() != DIGEST_DIGITS || secret.len() != SECRET_DIGITS {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            fips,
            digest: base36::decode(digest).ok_or(TokenError::Malformed)?,
            secret: base36::decode(secret).ok_or(TokenError::Malformed)?,
        })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}-")?;
        match self.fips {
            None => f.write_str("1-")?,
            Some(required) => write!(f, "2-{}-", u8::from(required))?,
        }
        let digest = base36::encode(&self.digest, DIGEST_DIGITS);
        let secret = base36::encode(&self.secret, SECRET_DIGITS);
        write!(f, "{digest}-{secret}")
    }
}

/// A token in a log would be a way into the swarm.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(SWMTKN-…)")
    }
}

#[cfg(test)]
#[path = "token_test.rs"]
mod tests;
