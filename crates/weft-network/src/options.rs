//! Reading the bridge driver's options.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_plan::LinkName;
use weft_types::{Mtu, NetworkId};

use crate::error::NetworkError;
use crate::network::BridgeSettings;

/// `com.docker.network.bridge.name`.
pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// `com.docker.network.bridge.enable_icc`.
pub(crate) const INTER_CONTAINER: &str = "com.docker.network.bridge.enable_icc";
/// `com.docker.network.bridge.enable_ip_masquerade`.
pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// `com.docker.network.bridge.host_binding_ipv4`.
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// `com.docker.network.bridge.default_bridge`.
pub(crate) const DEFAULT: &str = "com.docker.network.bridge.default_bridge";
/// `com.docker.network.driver.mtu`.
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
/// `com.docker.network.container_iface_prefix`.
const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";

/// The driver's settings from its options. Unknown options are kept and shown, as Docker does.
pub(crate) fn bridge_settings(
    id: &NetworkId,
    options: &BTreeMap<String, String>,
) -> Result<BridgeSettings, NetworkError> {
    let text = |key: &str| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let default_name = format!("br-{}", id.short());
    let name = text(BRIDGE_NAME).unwrap_or(&default_name);
    let bridge: LinkName = name.parse().map_err(|error| invalid(format!("invalid bridge name: {error}")))?;
    let host_binding = text(HOST_BINDING).map(|ip| ip.parse::<IpAddr>()).transpose().map_err(|_| {
        invalid(format!(
            "failed to parse {HOST_BINDING} value: {} (not an IP address)",
            text(HOST_BINDING).unwrap_or("")
        ))
    })?;
    Ok(BridgeSettings {
        bridge,
        mtu: network_mtu(options)?.unwrap_or(Mtu::ETHERNET),
        inter_container: flag(INTER_CONTAINER, text(INTER_CONTAINER))?.unwrap_or(true),
        masquerade: flag(MASQUERADE, text(MASQUERADE))?.unwrap_or(true),
        host_binding: host_binding.filter(|ip| !ip.is_unspecified()),
        interface_prefix: interface_prefix(options)?,
    })
}

/// Begin of the interfaces' names inside.
pub(crate) fn interface_prefix(options: &BTreeMap<String, String>) -> Result<String, NetworkError> {
    let prefix = options
        .get(INTERFACE_PREFIX)
        .map(String::as_str)
        .filter(|prefix| !prefix.is_empty())
        .unwrap_or("eth");
    if format!("{prefix}0").parse::<LinkName>().is_err() || prefix.len() > 10 {
        return Err(invalid(format!("invalid interface prefix {prefix:?}")));
    }
    Ok(prefix.to_owned())
}

/// The MTU that the user wants; none leaves it to the driver.
pub(crate) fn network_mtu(options: &BTreeMap<String, String>) -> Result<Option<Mtu>, NetworkError> {
    mtu(options.get(MTU).map(String::as_str).filter(|value| !value.is_empty()))
}

fn invalid(text: String) -> NetworkError {
    NetworkError::InvalidOption(text)
}

/// The truths that Go's `strconv.ParseBool` knows.
fn flag(key: &str, value: Option<&str>) -> Result<Option<bool>, NetworkError> {
    match value {
        None => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(other) => Err(invalid(format!(
            "failed to parse {key} value: {other} (strconv.ParseBool: parsing {other:?}: invalid syntax)"
        ))),
    }
}

/// An MTU option; 0 leaves it to the daemon.
fn mtu(value: Option<&str>) -> Result<Option<Mtu>, NetworkError> {
    let Some(text) = value else { return Ok(None) };
    let number: i64 = text.parse().map_err(|_| {
        invalid(format!(
            "failed to parse {MTU} value: {text} (strconv.Atoi: parsing {text:?}: invalid syntax)"
        ))
    })?;
    if number == 0 {
        return Ok(None);
    }
    let bad = || invalid(format!("invalid MTU number: {number}"));
    u32::try_from(number).ok().and_then(|n| Mtu::try_from(n).ok()).map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &[(&str, &str)]) -> Result<BridgeSettings, String> {
        let id = NetworkId::random_local(&mut rand::rng());
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        bridge_settings(&id, &options).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults() {
        let settings = settings(&[("com.docker.network.bogus", "1")]).unwrap();
        assert!(settings.bridge.as_str().starts_with("br-") && settings.bridge.as_str().len() == 15);
        assert!(settings.inter_container && settings.masquerade);
        assert_eq!((settings.mtu, settings.host_binding), (Mtu::ETHERNET, None));
    }

    #[test]
    fn dockers_complaints() {
        for (options, text) in [
            (
                [(INTER_CONTAINER, "perhaps")],
                "failed to parse com.docker.network.bridge.enable_icc value: perhaps (strconv.ParseBool: parsing \"perhaps\": invalid syntax)",
            ),
            (
                [(MTU, "abc")],
                "failed to parse com.docker.network.driver.mtu value: abc (strconv.Atoi: parsing \"abc\": invalid syntax)",
            ),
            ([(MTU, "-1")], "invalid MTU number: -1"),
        ] {
            assert_eq!(settings(&options).unwrap_err(), text);
        }
        assert!(settings(&[(BRIDGE_NAME, "a/b")]).is_err());
    }
}
