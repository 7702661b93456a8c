//! One network: as it is stored, as users see it, as the network controller takes it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weft_network::{OverlaySpec, OverlaySubnet};
use weft_orchestration::{VXLAN_ID_LIST_OPTION, mtu_option, network_vnis};
use weft_types::{NetworkId, Vni};
use weft_wire::swarmkit::ipam_config::AddressFamily;
use weft_wire::swarmkit::{Annotations, Driver, IpamConfig, IpamOptions, Meta, Network, NetworkSpec};

const OVERLAY: &str = "overlay";
const DEFAULT_IPAM: &str = "default";

/// A network with all that was decided when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalNetwork {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// In order.
    pub subnets: Vec<GlobalSubnet>,
    /// One for each IPv4 subnet, in the same order.
    pub vnis: Vec<Vni>,
    /// IPv6 was asked for.
    #[serde(default)]
    pub ipv6: bool,
    /// No way out.
    #[serde(default)]
    pub internal: bool,
    /// Shown back; any container may join.
    #[serde(default)]
    pub attachable: bool,
    /// The user's.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The user's for the driver.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The user's for address management.
    #[serde(default)]
    pub ipam_options: BTreeMap<String, String>,
}

/// One subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalSubnet {
    /// Its addresses.
    pub subnet: IpNet,
    /// Kept free, as the router's.
    pub gateway: Option<IpAddr>,
    /// Containers get addresses from here only.
    #[serde(default)]
    pub range: Option<IpNet>,
    /// Addresses of others, by what they are for.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl GlobalNetwork {
    /// From an object that was allocated by this version of Weft; none: it was not.
    pub(super) fn of(network: &Network, created: Timestamp) -> Option<Self> {
        let spec = network.spec.clone()?;
        let named = spec.annotations.unwrap_or_default();
        let subnet = |config: &IpamConfig| {
            Some(GlobalSubnet {
                subnet: config.subnet.parse().ok()?,
                gateway: config.gateway.parse().ok(),
                range: config.range.parse().ok(),
                auxiliary: config
                    .reserved
                    .iter()
                    .map(|(name, ip)| Some((name.clone(), ip.parse().ok()?)))
                    .collect::<Option<_>>()?,
            })
        };
        let mut options = spec.driver_config.unwrap_or_default().options;
        options.remove(VXLAN_ID_LIST_OPTION);
        Some(Self {
            name: named.name,
            created,
            subnets: network.ipam.as_ref()?.configs.iter().map(subnet).collect::<Option<_>>()?,
            vnis: network_vnis(network).ok()?,
            ipv6: spec.ipv6_enabled,
            internal: spec.internal,
            attachable: spec.attachable,
            labels: named.labels,
            options,
            ipam_options: spec.ipam.and_then(|ipam| ipam.driver).unwrap_or_default().options,
        })
    }

    /// From what the controller keeps of it.
    pub fn of_overlay(spec: &OverlaySpec, created: Timestamp) -> Self {
        let mut options = spec.options.clone();
        options.remove(VXLAN_ID_LIST_OPTION);
        let subnet = |subnet: &OverlaySubnet| GlobalSubnet {
            subnet: subnet.subnet,
            gateway: subnet.gateway,
            range: subnet.range,
            auxiliary: subnet.auxiliary.clone(),
        };
        let of_ipv4 = spec.subnets.iter().filter(|subnet| subnet.subnet.addr().is_ipv4());
        Self {
            name: spec.name.clone(),
            created,
            subnets: spec.subnets.iter().map(subnet).collect(),
            vnis: of_ipv4.filter_map(|subnet| subnet.vni).collect(),
            ipv6: spec.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6()),
            internal: spec.internal,
            attachable: spec.attachable,
            labels: spec.labels.clone(),
            options,
            ipam_options: BTreeMap::new(),
        }
    }

    /// As the API and the allocator know networks of a cluster.
    pub fn to_object(&self, id: &NetworkId) -> Network {
        let list: Vec<String> = self.vnis.iter().map(Vni::to_string).collect();
        let mut state = self.options.clone();
        state.insert(VXLAN_ID_LIST_OPTION.to_owned(), list.join(","));
        let ipam = IpamOptions {
            driver: Some(Driver { name: DEFAULT_IPAM.to_owned(), options: self.ipam_options.clone() }),
            configs: self.subnets.iter().map(GlobalSubnet::to_config).collect(),
        };
        let created_at = prost_types::Timestamp {
            seconds: self.created.as_second(),
            nanos: self.created.subsec_nanosecond(),
        };
        Network {
            id: id.to_string(),
            meta: Some(Meta { created_at: Some(created_at), ..Meta::default() }),
            spec: Some(NetworkSpec {
                annotations: Some(Annotations {
                    name: self.name.clone(),
                    labels: self.labels.clone(),
                    ..Annotations::default()
                }),
                driver_config: Some(Driver { name: OVERLAY.to_owned(), options: self.options.clone() }),
                ipv6_enabled: self.ipv6,
                internal: self.internal,
                attachable: self.attachable,
                ipam: Some(ipam.clone()),
                ..NetworkSpec::default()
            }),
            driver_state: Some(Driver { name: OVERLAY.to_owned(), options: state }),
            ipam: Some(ipam),
            ..Network::default()
        }
    }

    /// As the network controller takes it. The identifiers belong to the IPv4 subnets in order; an IPv6 subnet shares
    /// that of the IPv4 subnet at its place.
    pub fn to_overlay(&self, id: &NetworkId) -> OverlaySpec {
        let (mut v4, mut v6) = (0, 0);
        let subnets = self.subnets.iter().map(|subnet| {
            let place = if subnet.subnet.addr().is_ipv4() { &mut v4 } else { &mut v6 };
            let vni = self.vnis.get(*place).or(self.vnis.first()).copied();
            *place += 1;
            OverlaySubnet {
                subnet: subnet.subnet,
                gateway: subnet.gateway,
                vni,
                range: subnet.range,
                auxiliary: subnet.auxiliary.clone(),
            }
        });
        OverlaySpec {
            id: id.clone(),
            name: self.name.clone(),
            subnets: subnets.collect(),
            mtu: mtu_option(&self.options).ok().flatten(),
            attachable: self.attachable,
            internal: self.internal,
            encrypted: false,
            ingress: false,
            labels: self.labels.clone(),
            options: self.options.clone(),
        }
    }
}

impl GlobalSubnet {
    fn to_config(&self) -> IpamConfig {
        let family = if self.subnet.addr().is_ipv4() { AddressFamily::Ipv4 } else { AddressFamily::Ipv6 };
        let text = |net: &Option<IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
        IpamConfig {
            family: family.into(),
            subnet: self.subnet.to_string(),
            range: text(&self.range),
            gateway: self.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            reserved: self.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
        }
    }
}
