//! The result of ADD, in each version's form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_types::{EndpointAddress, MacAddr};

use super::error::{CniError, Code};
use super::protocol::Dns;
use super::version::SpecVersion;

/// What ADD made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CniResult {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) ips: Vec<Ip>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

/// An interface; without a sandbox it is the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<MacAddr>,
    /// In bytes; told since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sandbox: String,
}

/// An address; `version` is only there before 1.0.0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ip {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// Index of its interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<usize>,
    pub(crate) address: EndpointAddress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
}

impl Route {
    /// All else by this router.
    pub(crate) fn default_via(router: IpAddr) -> Self {
        let any: IpAddr = match router {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A length of zero fits every family.
        Self { dst: IpNet::new(any, 0).unwrap_or_else(|_| IpNet::from(any)), gw: Some(router) }
    }
}

/// As written in every version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    dns: Dns,
}

impl CniResult {
    /// The result in the form of a version.
    pub(crate) fn render(&self, version: SpecVersion) -> Result<Value, CniError> {
        let mut written = Written {
            cni_version: version.text().to_owned(),
            interfaces: self.interfaces.clone(),
            ips: self.ips.clone(),
            routes: self.routes.clone(),
            dns: self.dns.clone(),
        };
        for interface in written.interfaces.iter_mut().filter(|_| !version.tells_mtu()) {
            interface.mtu = None;
        }
        for ip in &mut written.ips {
            let family = if ip.address.ip().is_ipv4() { "4" } else { "6" };
            ip.version = version.names_families().then(|| family.to_owned());
        }
        serde_json::to_value(written).map_err(|error| CniError::new(Code::Io, error.to_string()))
    }

    /// Reads what a runtime kept of a result. Its own version, where it has one, must be one that the plugin speaks.
    pub(crate) fn parse(version: SpecVersion, value: &Value) -> Result<Self, CniError> {
        let written = Written::deserialize(value).map_err(|error| {
            CniError::new(Code::Decode, "prevResult cannot be read").with_details(error.to_string())
        })?;
        if !written.cni_version.is_empty() && written.cni_version != version.text() {
            SpecVersion::of(Some(&written.cni_version))?;
        }
        let ips = written.ips.into_iter().map(|ip| Ip { version: None, ..ip });
        Ok(Self {
            interfaces: written.interfaces,
            ips: ips.collect(),
            routes: written.routes,
            dns: written.dns,
        })
    }

    /// The interface of this name in a container, with its addresses.
    pub(crate) fn interface(&self, name: &str) -> Option<(&Interface, Vec<EndpointAddress>)> {
        let index = self.interfaces.iter().position(|i| i.name == name && !i.sandbox.is_empty())?;
        let own = self.ips.iter().filter(|ip| ip.interface == Some(index));
        Some((&self.interfaces[index], own.map(|ip| ip.address).collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn result() -> CniResult {
        CniResult {
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                mac: Some("02:42:0a:00:01:02".parse().unwrap()),
                mtu: Some(1450),
                sandbox: "/run/netns/x".to_owned(),
            }],
            ips: vec![Ip {
                version: None,
                interface: Some(0),
                address: "10.0.1.2/24".parse().unwrap(),
                gateway: None,
            }],
            routes: vec![Route::default_via("172.18.0.1".parse().unwrap())],
            dns: Dns { nameservers: vec!["127.0.0.11".parse().unwrap()], ..Dns::default() },
        }
    }

    #[test]
    fn each_version_has_its_form() {
        let newest = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": "02:42:0a:00:01:02", "mtu": 1450, "sandbox": "/run/netns/x"}],
            "ips": [{"interface": 0, "address": "10.0.1.2/24"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "172.18.0.1"}],
            "dns": {"nameservers": ["127.0.0.11"]},
        });
        assert_eq!(result().render(SpecVersion::V1_1_0).unwrap(), newest);
        let mut older = newest;
        older["cniVersion"] = "1.0.0".into();
        older["interfaces"][0].as_object_mut().unwrap().remove("mtu");
        assert_eq!(result().render(SpecVersion::V1_0_0).unwrap(), older);
        older["cniVersion"] = "0.4.0".into();
        older["ips"][0]["version"] = "4".into();
        assert_eq!(result().render(SpecVersion::V0_4_0).unwrap(), older);
    }

    #[test]
    fn the_containers_interface_is_found_among_others() {
        let mut result = result();
        let host = Interface { sandbox: String::new(), ..result.interfaces[0].clone() };
        result.interfaces.insert(0, host);
        result.ips[0].interface = Some(1);
        let (_, addresses) = result.interface("eth0").unwrap();
        assert_eq!(addresses, ["10.0.1.2/24".parse().unwrap()]);
        assert!(result.interface("eth1").is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            ips in proptest::collection::vec((any::<[u8; 16]>(), 0u8..=128, any::<bool>()), 0..4),
            routers in proptest::collection::vec(any::<[u8; 4]>(), 0..3),
            mac in any::<Option<[u8; 6]>>(), mtu in any::<Option<u32>>(), sandbox in "[a-z/]{0,9}",
        ) {
            let ip = |(bytes, length, with): (_, u8, bool)| Ip {
                version: None,
                interface: with.then_some(0),
                address: EndpointAddress::new(IpAddr::from(bytes), IpNet::new(IpAddr::from(bytes), length).unwrap()),
                gateway: None,
            };
            let sent = CniResult {
                interfaces: vec![Interface { name: "eth0".to_owned(), mac: mac.map(MacAddr), mtu, sandbox }],
                ips: ips.into_iter().map(ip).collect(),
                routes: routers.into_iter().map(|router| Route::default_via(router.into())).collect(),
                dns: Dns::default(),
            };
            let value = sent.render(SpecVersion::V1_1_0).unwrap();
            prop_assert_eq!(CniResult::parse(SpecVersion::V1_1_0, &value).unwrap(), sent.clone());
            for older in [SpecVersion::V0_4_0, SpecVersion::V1_0_0] {
                let read = CniResult::parse(older, &sent.render(older).unwrap()).unwrap();
                prop_assert_eq!(&read.ips, &sent.ips);
            }
        }
    }
}
