//! Identifiers in the two alphabets that Docker uses.
//!
//! * Swarm objects: 25 characters of base 36 (`[0-9a-z]`), as SwarmKit's `identity.NewID`.
//! * Local objects (containers, endpoints, local networks): 64 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use rand::RngCore;
use serde::{Deserialize, Serialize};

/// Length of a swarm object id in characters.
const SWARM_ID_LEN: usize = 25;
/// Length of a local object id in characters.
const LOCAL_ID_LEN: usize = 64;
/// Docker shows local ids cut to this many characters.
const SHORT_ID_LEN: usize = 12;

/// A text that is not an id of the wanted form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Wrong length or alphabet.
    #[error("{0:?} is not an id: want {1}")]
    Malformed(String, &'static str),
}

fn is_base36(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// 17 random bytes with the top bit set, in base 36, without the first character (SwarmKit `identity/randomid.go`).
fn random_base36(rng: &mut impl RngCore) -> String {
    let mut bytes = [0u8; 17];
    rng.fill_bytes(&mut bytes);
    bytes[0] |= 0x80;
    let mut digits = Vec::with_capacity(27);
    let mut rest = bytes.to_vec();
    while rest.iter().any(|b| *b != 0) {
        let mut carry = 0u32;
        for byte in &mut rest {
            let value = carry * 256 + u32::from(*byte);
            *byte = (value / 36) as u8;
            carry = value % 36;
        }
        digits.push(char::from_digit(carry, 36).unwrap_or('0'));
    }
    digits.iter().rev().skip(1).take(SWARM_ID_LEN).collect()
}

fn random_hex(rng: &mut impl RngCore) -> String {
    let mut bytes = [0u8; LOCAL_ID_LEN / 2];
    rng.fill_bytes(&mut bytes);
    hex::encode(bytes)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $want:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve characters, as Docker shows ids in tables.
            pub fn short(&self) -> &str {
                &self.0[..SHORT_ID_LEN.min(self.0.len())]
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(IdError::Malformed(text, $want)) }
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! swarm_id {
    ($(#[$doc:meta])* $name:ident) => {
        id_type!($(#[$doc])* $name, |t| t.len() == SWARM_ID_LEN && is_base36(t), "25 characters of [0-9a-z]");
        impl $name {
            /// A new random id.
            pub fn random(rng: &mut impl RngCore) -> Self {
                Self(random_base36(rng))
            }
        }
    };
}

macro_rules! local_id {
    ($(#[$doc:meta])* $name:ident) => {
        id_type!($(#[$doc])* $name, |t| t.len() == LOCAL_ID_LEN && is_hex(t), "64 hexadecimal digits");
        impl $name {
            /// A new random id.
            pub fn random(rng: &mut impl RngCore) -> Self {
                Self(random_hex(rng))
            }
        }
    };
}

swarm_id!(
    /// A swarm, called cluster in SwarmKit.
    SwarmId
);
swarm_id!(
    /// A member of a swarm.
    NodeId
);
swarm_id!(
    /// A service of a swarm.
    ServiceId
);
swarm_id!(
    /// A secret of a swarm.
    SecretId
);
swarm_id!(
    /// A config of a swarm.
    ConfigId
);
swarm_id!(
    /// A task of a service, or an attachment of a container to a swarm network.
    TaskId
);
local_id!(
    /// A container of one host.
    ContainerId
);
local_id!(
    /// One attachment of a sandbox to a network.
    EndpointId
);

id_type!(
    /// A network: 25 base-36 characters when the swarm owns it, 64 hexadecimal digits when a host does.
    NetworkId,
    |t| (t.len() == SWARM_ID_LEN && is_base36(t)) || (t.len() == LOCAL_ID_LEN && is_hex(t)),
    "25 characters of [0-9a-z] or 64 hexadecimal digits"
);

impl NetworkId {
    /// A new id for a network of the swarm.
    pub fn random_swarm(rng: &mut impl RngCore) -> Self {
        Self(random_base36(rng))
    }

    /// A new id for a network of this host.
    pub fn random_local(rng: &mut impl RngCore) -> Self {
        Self(random_hex(rng))
    }

    /// Whether the swarm owns this network.
    pub fn is_swarm(&self) -> bool {
        self.0.len() == SWARM_ID_LEN
    }
}

id_type!(
    /// The name of a node in gossip: 12 hexadecimal digits, new at each start (not the swarm node id).
    /// Foreign nodes may use any text up to 255 bytes.
    GossipName,
    |t| !t.is_empty() && t.len() <= 255,
    "1 to 255 bytes"
);

impl GossipName {
    /// A new random name.
    pub fn random(rng: &mut impl RngCore) -> Self {
        let mut bytes = [0u8; 6];
        rng.fill_bytes(&mut bytes);
        Self(hex::encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_have_the_documented_form() {
        let mut rng = rand::rng();
        for _ in 0..1000 {
            let node = NodeId::random(&mut rng);
            assert_eq!(node.as_str().parse(), Ok(node.clone()));
            let container = ContainerId::random(&mut rng);
            assert_eq!(container.as_str().parse(), Ok(container.clone()));
            assert_eq!(container.short().len(), 12);
        }
    }

    #[test]
    fn malformed_ids_are_refused() {
        for bad in ["", "abc", "ABCDEFGHIJKLMNOPQRSTUVWXY", "../../../../../../etc/passwd"] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
            assert!(bad.parse::<NetworkId>().is_err(), "{bad}");
        }
    }
}
