//! What the plugin's process and the daemon say to each other: one POST a call, JSON both ways.
//!
//! `/weft.cni.v1/<verb>`; an answer of status 200 is the verb's own, any other a [`super::error::CniError`]. Another
//! version is another path, which a daemon that does not know it answers with 404.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_network::PortWish;
use weft_types::{EndpointAddress, MacAddr};

/// What every path begins with.
pub(crate) const PREFIX: &str = "/weft.cni.v1/";

/// What makes an attachment the same one in all calls (the specification's primary key).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct AttachmentKey {
    /// CNI's name for the network.
    pub(crate) network: String,
    /// The runtime's id of the container.
    pub(crate) container: String,
    /// The interface inside.
    pub(crate) interface: String,
}

/// Settings of the resolver by CNI's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nameservers: Vec<IpAddr>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<String>,
}

/// `add`: a container joins a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddRequest {
    pub(crate) key: AttachmentKey,
    pub(crate) netns: PathBuf,
    /// Weft's name or id for the network.
    pub(crate) network: String,
    /// The container's name; may be empty.
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) ports: Vec<PortWish>,
    pub(crate) dns: Dns,
}

/// What came of `add`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddAnswer {
    pub(crate) mac: MacAddr,
    pub(crate) mtu: Option<u32>,
    pub(crate) addresses: Vec<EndpointAddress>,
    /// The network's own routers.
    pub(crate) gateways: Vec<IpAddr>,
    /// Routers of the default routes that came with this attachment.
    pub(crate) default_routes: Vec<IpAddr>,
    pub(crate) nameservers: Vec<IpAddr>,
}

/// `check`: whether an attachment is as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckRequest {
    pub(crate) key: AttachmentKey,
    pub(crate) netns: PathBuf,
    /// By the answer to `add`.
    pub(crate) addresses: Vec<EndpointAddress>,
    /// Likewise.
    pub(crate) mac: Option<MacAddr>,
}

/// `gc`: whatever else this CNI network has goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GcRequest {
    /// CNI's name for the network.
    pub(crate) network: String,
    pub(crate) valid: Vec<AttachmentKey>,
}

/// `status`: whether `add` can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusRequest {
    /// Weft's name or id for the network.
    pub(crate) network: String,
}

/// The answer of verbs that have nothing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weft_types::PortProtocol;

    use super::*;

    fn key() -> impl Strategy<Value = AttachmentKey> {
        ("[a-z]{1,9}", "[a-z0-9_.-]{1,70}", "[a-z0-9]{1,15}")
            .prop_map(|(network, container, interface)| AttachmentKey { network, container, interface })
    }

    fn port() -> impl Strategy<Value = PortWish> {
        (1u16.., 1u16.., any::<Option<[u8; 4]>>()).prop_map(|(host, inside, ip)| PortWish {
            protocol: PortProtocol::Tcp,
            container_port: inside,
            host_ip: ip.map(IpAddr::from),
            host_ports: host..=host,
        })
    }

    proptest! {
        #[test]
        fn what_is_asked_arrives(
            key in key(), name in ".{0,9}", aliases in proptest::collection::vec("[a-z]{1,5}", 0..3),
            ips in proptest::collection::vec(any::<[u8; 16]>(), 0..3), mac in any::<Option<[u8; 6]>>(),
            ports in proptest::collection::vec(port(), 0..3), search in proptest::collection::vec("[a-z]{1,5}", 0..3),
        ) {
            let sent = AddRequest {
                key, netns: "/run/netns/x".into(), network: "web".to_owned(), name, aliases,
                addresses: ips.into_iter().map(IpAddr::from).collect(), mac: mac.map(MacAddr), ports,
                dns: Dns { search, ..Dns::default() },
            };
            let bytes = serde_json::to_vec(&sent).unwrap();
            prop_assert_eq!(serde_json::from_slice::<AddRequest>(&bytes).unwrap(), sent);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<AddRequest>(&bytes);
            let _ = serde_json::from_slice::<AddAnswer>(&bytes);
            let _ = serde_json::from_slice::<CheckRequest>(&bytes);
            let _ = serde_json::from_slice::<GcRequest>(&bytes);
        }
    }
}
