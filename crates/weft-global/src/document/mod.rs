//! What the store holds: documents in JSON, each with the form it is in. Others than ours are left alone.

mod addresses;
mod endpoint;
pub mod keys;
mod network;
mod networks;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use addresses::{AddressBook, Holder};
pub use endpoint::EndpointRecord;
pub use network::{GlobalNetwork, GlobalSubnet};
pub use networks::NetworkBook;

/// Bytes. Consul's limit of a value (`kv_max_value_size`), the lower of both stores'.
pub const MAX_DOCUMENT: usize = 512 * 1024;

/// Why bytes are no document of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Something that is kept under one key.
pub trait Document: Serialize + DeserializeOwned {
    /// The form that this version of Weft reads and writes.
    const FORMAT: u32 = 1;

    /// The form that it is in.
    fn format(&self) -> u32;

    /// Reads it. Never panics, whatever the bytes are.
    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let found: Self = serde_json::from_slice(bytes).map_err(|error| Unreadable(error.to_string()))?;
        match found.format() {
            format if format == Self::FORMAT => Ok(found),
            other => Err(Unreadable(format!(
                "it is in form {other}; this version of Weft reads form {}",
                Self::FORMAT
            ))),
        }
    }

    /// Its bytes.
    fn encode(&self) -> Vec<u8> {
        // Keys of all maps are texts, and nothing else can fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
