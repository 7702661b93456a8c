//! Where documents are, below the prefix of the store's address.

use weft_types::{EndpointId, NetworkId};

/// Folder of all of them, named after their form.
pub const ROOT: &str = "weft/v1";
/// The networks.
pub const NETWORKS: &str = "weft/v1/networks";

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// All networks.
    Networks,
    /// Who has which address of a network.
    Addresses(NetworkId),
    /// An endpoint of a host.
    Endpoint(NetworkId, EndpointId),
}

/// Key of a network's addresses.
pub fn addresses(network: &NetworkId) -> String {
    format!("{ROOT}/addresses/{network}")
}

/// Key of an endpoint.
pub fn endpoint(network: &NetworkId, endpoint: &EndpointId) -> String {
    format!("{ROOT}/endpoints/{network}/{endpoint}")
}

/// What is under a key; none: it is not ours.
pub fn held(key: &str) -> Option<Held> {
    let inside = key.strip_prefix(ROOT)?.strip_prefix('/')?;
    let mut parts = inside.split('/');
    let held = match (parts.next()?, parts.next(), parts.next()) {
        ("networks", None, None) => Held::Networks,
        ("addresses", Some(network), None) => Held::Addresses(network.parse().ok()?),
        ("endpoints", Some(network), Some(endpoint)) => {
            Held::Endpoint(network.parse().ok()?, endpoint.parse().ok()?)
        }
        _ => return None,
    };
    parts.next().is_none().then_some(held)
}
