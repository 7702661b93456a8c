//! The bodies of the plugin protocol, as far as they matter here. Fields of later engines are left alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Options; where there are none, Go's `nil` comes as `null`.
pub(super) type Options = Option<BTreeMap<String, Value>>;

/// `IpamDriver.RequestPool`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RequestPool {
    /// Empty: the driver chooses.
    pub(super) pool: String,
    pub(super) sub_pool: String,
    pub(super) options: Options,
    pub(super) v6: bool,
}

/// `IpamDriver.RequestAddress` and `IpamDriver.ReleaseAddress`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Address {
    #[serde(rename = "PoolID")]
    pub(super) pool: String,
    /// Empty: any.
    pub(super) address: String,
    pub(super) options: Options,
}

/// `NetworkDriver.CreateNetwork`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "IPv4Data")]
    pub(super) ipv4: Option<Vec<Pool>>,
    #[serde(rename = "IPv6Data")]
    pub(super) ipv6: Option<Vec<Pool>>,
}

/// A subnet of a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Pool {
    pub(super) address_space: String,
    pub(super) pool: String,
}

/// Calls about one endpoint: `CreateEndpoint`, `Join`, `Leave`, `DeleteEndpoint`, `EndpointOperInfo`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Endpoint {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    pub(super) interface: Option<Interface>,
    pub(super) options: Options,
}

/// An endpoint's interface; empty texts are not given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Interface {
    pub(super) address: String,
    #[serde(rename = "AddressIPv6")]
    pub(super) address_ipv6: String,
    pub(super) mac_address: String,
}

/// The text of an option.
pub(super) fn text<'a>(options: &'a Options, key: &str) -> Option<&'a str> {
    options.as_ref()?.get(key)?.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_dockerd_sends_is_read() {
        let pool =
            r#"{"AddressSpace":"weft","Pool":"","SubPool":"","Options":{"weft.network":"web"},"V6":false}"#;
        let pool: RequestPool = serde_json::from_str(pool).unwrap();
        assert_eq!(text(&pool.options, "weft.network"), Some("web"));
        let none: RequestPool = serde_json::from_str(r#"{"Pool":"","Options":null}"#).unwrap();
        assert_eq!(text(&none.options, "weft.network"), None);
        let endpoint = r#"{"NetworkID":"n","EndpointID":"e","Interface":{"Address":"10.0.1.5/24","AddressIPv6":"",
            "MacAddress":""},"Options":{"com.docker.network.portmap":null,"weft.name":"db"}}"#;
        let endpoint: Endpoint = serde_json::from_str(endpoint).unwrap();
        assert_eq!((endpoint.network.as_str(), endpoint.endpoint.as_str()), ("n", "e"));
        assert_eq!(endpoint.interface.unwrap().address, "10.0.1.5/24");
        let network = r#"{"NetworkID":"n","Options":{},"IPv4Data":[{"AddressSpace":"weft","Pool":"10.0.1.0/24",
            "Gateway":"10.0.1.1/24","AuxAddresses":{}}],"IPv6Data":null}"#;
        let network: CreateNetwork = serde_json::from_str(network).unwrap();
        assert_eq!(network.ipv4.unwrap()[0].address_space, "weft");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            texts in proptest::array::uniform4(".{0,9}"), pairs in proptest::collection::btree_map("[a-z.]{1,9}", ".{0,9}", 0..4),
        ) {
            let [a, b, c, d] = texts;
            let options = Some(pairs.into_iter().map(|(key, value)| (key, Value::from(value))).collect());
            let interface = Some(Interface { address: c, address_ipv6: String::new(), mac_address: d });
            let sent = Endpoint { network: a, endpoint: b, interface, options };
            let bytes = serde_json::to_vec(&sent).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Endpoint>(&bytes).unwrap(), sent);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<RequestPool>(&bytes);
            let _ = serde_json::from_slice::<Address>(&bytes);
            let _ = serde_json::from_slice::<CreateNetwork>(&bytes);
            let _ = serde_json::from_slice::<Endpoint>(&bytes);
        }
    }
}
