//! The network configuration that comes on standard input.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use weft_network::PortWish;
use weft_types::MacAddr;

use super::environment::{address, is_name};
use super::error::{CniError, Code};
use super::protocol::{AttachmentKey, Dns};
use super::result::CniResult;
use super::version::SpecVersion;

/// Where the daemon listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/weft/plugins/cni.sock";

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkConfig {
    pub(crate) version: SpecVersion,
    /// CNI's name for the network.
    pub(crate) name: String,
    /// Weft's name or id for it.
    pub(crate) network: String,
    pub(crate) socket: PathBuf,
    pub(crate) dns: Dns,
    pub(crate) aliases: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) ports: Vec<PortWish>,
    /// What ADD answered, for CHECK and DEL.
    pub(crate) previous: Option<CniResult>,
    /// What GC leaves alone; none: the runtime did not say.
    pub(crate) valid: Option<Vec<AttachmentKey>>,
}

/// As written. Fields that belong to the runtime or to other plugins are left to them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    cni_version: Option<String>,
    #[serde(default)]
    name: String,
    network: Option<String>,
    socket: Option<PathBuf>,
    ipam: Option<Value>,
    #[serde(default)]
    dns: Dns,
    #[serde(default)]
    runtime_config: RawRuntime,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<RawAttachment>>,
}

/// By the conventions for capabilities.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawRuntime {
    port_mappings: Vec<RawPort>,
    aliases: RawAliases,
    ips: Vec<String>,
    mac: Option<String>,
}

/// Aliases of all networks by CNI's names for them, or those of this one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawAliases {
    Of(BTreeMap<String, Vec<String>>),
    Here(Vec<String>),
}

impl Default for RawAliases {
    fn default() -> Self {
        Self::Here(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    #[serde(default)]
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

#[derive(Debug, Deserialize)]
struct RawAttachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

impl NetworkConfig {
    /// Reads and checks a configuration.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CniError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| {
            CniError::new(Code::Decode, "the network configuration cannot be read")
                .with_details(error.to_string())
        })?;
        let version = SpecVersion::of(raw.cni_version.as_deref())?;
        if !is_name(&raw.name) {
            return Err(invalid(format!("name: {:?} is no name of a network", raw.name)));
        }
        if raw.ipam.as_ref().is_some_and(|ipam| ipam.as_object().is_none_or(|fields| !fields.is_empty())) {
            let msg = "ipam: addresses come from Weft, leave it out";
            return Err(CniError::new(Code::UnsupportedField, msg));
        }
        let aliases = match raw.runtime_config.aliases {
            RawAliases::Of(mut all) => all.remove(&raw.name).unwrap_or_default(),
            RawAliases::Here(aliases) => aliases,
        };
        let ips = raw.runtime_config.ips.iter();
        let addresses = ips
            .map(|ip| address(ip).ok_or_else(|| invalid(format!("ips: {ip:?} is no address"))))
            .collect::<Result<_, _>>()?;
        let mac = raw.runtime_config.mac.filter(|mac| !mac.is_empty());
        let mac = mac.map(|mac| mac.parse().map_err(|_| invalid(format!("mac: {mac:?} is no MAC address"))));
        let ports = raw.runtime_config.port_mappings.iter().filter(|port| port.host_port != 0);
        let valid = raw.valid_attachments.map(|all| {
            let key = |of: RawAttachment| AttachmentKey {
                network: raw.name.clone(),
                container: of.container,
                interface: of.ifname,
            };
            all.into_iter().map(key).collect()
        });
        Ok(Self {
            version,
            network: raw.network.filter(|network| !network.is_empty()).unwrap_or_else(|| raw.name.clone()),
            socket: raw.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            dns: raw.dns,
            aliases,
            addresses,
            mac: mac.transpose()?,
            ports: ports.map(port).collect::<Result<_, _>>()?,
            previous: raw.prev_result.as_ref().map(|value| CniResult::parse(version, value)).transpose()?,
            valid,
            name: raw.name,
        })
    }
}

fn port(raw: &RawPort) -> Result<PortWish, CniError> {
    let protocol = raw
        .protocol
        .parse()
        .map_err(|_| invalid(format!("portMappings: {:?} is not tcp, udp or sctp", raw.protocol)))?;
    let host_ip = match raw.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse().map_err(|_| invalid(format!("portMappings: {text:?} is no address of the host")))?,
        ),
    };
    if raw.container_port == 0 {
        return Err(invalid("portMappings: containerPort is missing".to_owned()));
    }
    Ok(PortWish {
        protocol,
        container_port: raw.container_port,
        host_ip,
        host_ports: raw.host_port..=raw.host_port,
    })
}

fn invalid(msg: String) -> CniError {
    CniError::new(Code::InvalidConfig, msg)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use weft_types::PortProtocol;

    use super::*;

    fn parse(value: &Value) -> Result<NetworkConfig, CniError> {
        NetworkConfig::parse(value.to_string().as_bytes())
    }

    #[test]
    fn the_shortest_configuration_names_the_network() {
        let config = parse(&json!({"cniVersion": "1.0.0", "name": "web", "type": "weft"})).unwrap();
        assert_eq!((config.name.as_str(), config.network.as_str()), ("web", "web"));
        assert_eq!(config.socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!(config.version, SpecVersion::V1_0_0);
        assert_eq!(config.valid, None);
    }

    #[test]
    fn everything_that_runtimes_pass_is_read() {
        let config = parse(&json!({
            "cniVersion": "0.4.0", "name": "front", "type": "weft", "network": "web", "socket": "/s",
            "ipam": {}, "capabilities": {"portMappings": true}, "disableCheck": true,
            "dns": {"nameservers": ["10.9.9.9"], "search": ["example.com"]},
            "runtimeConfig": {
                "portMappings": [
                    {"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "127.0.0.1"},
                    {"hostPort": 0, "containerPort": 81},
                ],
                "aliases": {"front": ["store"], "back": ["other"]},
                "ips": ["10.0.1.9/24", "fd00::9"], "mac": "02:42:0a:00:01:09",
            },
            "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],
        }))
        .unwrap();
        assert_eq!((config.network.as_str(), config.socket.to_str()), ("web", Some("/s")));
        assert_eq!(config.aliases, ["store"]);
        assert_eq!(config.addresses, ["10.0.1.9", "fd00::9"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let [port] = config.ports.as_slice() else { panic!("{:?}", config.ports) };
        assert_eq!(
            (port.protocol, port.container_port, &port.host_ports),
            (PortProtocol::Udp, 80, &(8080..=8080))
        );
        assert_eq!(port.host_ip, Some("127.0.0.1".parse().unwrap()));
        assert_eq!(config.dns.search, ["example.com"]);
        let valid = config.valid.unwrap();
        assert_eq!((valid[0].network.as_str(), valid[0].interface.as_str()), ("front", "eth0"));
        let list = parse(&json!({"cniVersion": "1.0.0", "name": "n", "runtimeConfig": {"aliases": ["a"]}}));
        assert_eq!(list.unwrap().aliases, ["a"]);
    }

    #[test]
    fn mistakes_have_the_specifications_numbers() {
        let base = json!({"cniVersion": "1.1.0", "name": "web", "type": "weft"});
        for (key, value, code) in [
            ("cniVersion", json!("0.3.1"), 1),
            ("cniVersion", json!("2.0.0"), 1),
            ("cniVersion", json!(7), 6),
            ("name", json!(""), 7),
            ("name", json!("a b"), 7),
            ("ipam", json!({"type": "host-local"}), 2),
            ("runtimeConfig", json!({"ips": ["x"]}), 7),
            ("runtimeConfig", json!({"mac": "x"}), 7),
            (
                "runtimeConfig",
                json!({"portMappings": [{"hostPort": 1, "containerPort": 2, "protocol": "x"}]}),
                7,
            ),
            ("runtimeConfig", json!({"portMappings": [{"hostPort": 1, "containerPort": 0}]}), 7),
            ("runtimeConfig", json!({"portMappings": [{"hostPort": 70000, "containerPort": 2}]}), 6),
            ("prevResult", json!({"ips": 5}), 6),
        ] {
            let mut wrong = base.clone();
            wrong[key] = value;
            let error = parse(&wrong).unwrap_err();
            assert_eq!(error.code, code, "{wrong}: {error:?}");
        }
        assert_eq!(NetworkConfig::parse(b"{").unwrap_err().code, 6);
        assert_eq!(NetworkConfig::parse(b"").unwrap_err().code, 6);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = NetworkConfig::parse(&bytes);
        }

        #[test]
        fn a_damaged_configuration_does_no_harm(at in 0usize..150, byte in any::<u8>()) {
            let mut bytes = json!({"cniVersion": "1.1.0", "name": "web", "type": "weft",
                "runtimeConfig": {"ips": ["10.0.0.1"], "aliases": {"web": ["a"]}}, "prevResult": {"ips": []}})
            .to_string()
            .into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = NetworkConfig::parse(&bytes);
        }
    }
}
