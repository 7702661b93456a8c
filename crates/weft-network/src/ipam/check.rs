//! Reading the subnets of a request, with Docker's complaints.

use std::net::IpAddr;

use ipnet::IpNet;

use super::join_complaints;
use crate::error::NetworkError;
use crate::network::Pool;
use crate::spec::IpamConfig;

/// Complaints about the texts of a request, all together.
pub(crate) fn check_config(configs: &[IpamConfig], ipv6: bool) -> Result<(), NetworkError> {
    let complaints: Vec<String> = configs.iter().flat_map(|config| complaints(config, ipv6)).collect();
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(NetworkError::InvalidConfig(join_complaints(&complaints)))
    }
}

fn complaints(config: &IpamConfig, ipv6: bool) -> Vec<String> {
    let text = config.subnet.as_deref().unwrap_or_default();
    let Ok(subnet) = text.parse::<IpNet>() else {
        return vec![format!("invalid subnet {text}: invalid CIDR block notation")];
    };
    let mut out = Vec::new();
    if subnet.addr().is_ipv6() && !ipv6 {
        out.push(format!("invalid subnet {text}: IPv6 has not been enabled for this network"));
    }
    if subnet.trunc() != subnet {
        out.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    if let Some(range) = config.ip_range.as_deref().filter(|r| !r.is_empty()) {
        out.extend(range_complaint(range, &subnet));
    }
    if let Some(gateway) = config.gateway.as_deref().filter(|g| !g.is_empty()) {
        out.extend(address_complaint("gateway", gateway, &subnet));
    }
    for address in config.auxiliary.values() {
        out.extend(address_complaint("auxiliary address", address, &subnet));
    }
    out
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn range_complaint(text: &str, subnet: &IpNet) -> Option<String> {
    let Ok(range) = text.parse::<IpNet>() else {
        return Some(format!("invalid ip-range {text}: invalid CIDR block notation"));
    };
    if range.addr().is_ipv4() != subnet.addr().is_ipv4() {
        return Some(format!("invalid ip-range {text}: parent subnet is an {} block", family(subnet.addr())));
    }
    if range.prefix_len() < subnet.prefix_len() {
        return Some(format!(
            "invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if !subnet.contains(&range.addr()) {
        return Some(format!("invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"));
    }
    if range.trunc() != range {
        return Some(format!("invalid ip-range {text}: it should be {}", range.trunc()));
    }
    None
}

fn address_complaint(what: &str, text: &str, subnet: &IpNet) -> Option<String> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return Some(format!("invalid {what} {text}: invalid address"));
    };
    if ip.is_ipv4() != subnet.addr().is_ipv4() {
        return Some(format!("invalid {what} {text}: parent subnet is an {} block", family(subnet.addr())));
    }
    if !subnet.contains(&ip) {
        return Some(format!("invalid {what} {text}: parent subnet {subnet} doesn't contain this address"));
    }
    None
}

/// The pool of one checked subnet. A missing gateway is the first address of the subnet that is not taken otherwise.
pub(crate) fn resolve_config(config: &IpamConfig) -> Option<Pool> {
    let subnet: IpNet = config.subnet.as_deref()?.parse().ok()?;
    let parse =
        |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).and_then(|t| t.parse().ok());
    let auxiliary: std::collections::BTreeMap<String, IpAddr> =
        config.auxiliary.iter().filter_map(|(name, ip)| Some((name.clone(), ip.parse().ok()?))).collect();
    let given: Option<IpAddr> = parse(&config.gateway);
    let range = config.ip_range.as_deref().filter(|r| !r.is_empty()).and_then(|r| r.parse().ok());
    let gateway = given.or_else(|| first_host(subnet, range, &auxiliary))?;
    Some(Pool { subnet, range, gateway, user_subnet: true, show_gateway: given.is_some(), auxiliary })
}

/// Docker takes the gateway from the range too, if there is one.
fn first_host(
    subnet: IpNet,
    range: Option<IpNet>,
    auxiliary: &std::collections::BTreeMap<String, IpAddr>,
) -> Option<IpAddr> {
    let pool = Pool {
        subnet,
        range,
        // Not an address of the pool: nothing is left out for it.
        gateway: if subnet.addr().is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() },
        user_subnet: true,
        show_gateway: false,
        auxiliary: auxiliary.clone(),
    };
    super::first_free(&pool, &std::collections::BTreeSet::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(subnet: &str, range: &str, gateway: &str) -> IpamConfig {
        let some = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        IpamConfig {
            subnet: Some(subnet.to_owned()),
            ip_range: some(range),
            gateway: some(gateway),
            ..IpamConfig::default()
        }
    }

    fn complaint(config: IpamConfig) -> String {
        check_config(&[config], false).unwrap_err().to_string()
    }

    #[test]
    fn dockers_words() {
        let head = "invalid network config:\n";
        for (config, text) in [
            (config("foo", "", ""), "invalid subnet foo: invalid CIDR block notation"),
            (config("", "", ""), "invalid subnet : invalid CIDR block notation"),
            (config("10.99.1.0/33", "", ""), "invalid subnet 10.99.1.0/33: invalid CIDR block notation"),
            (config("10.99.3.5/24", "", ""), "invalid subnet 10.99.3.5/24: it should be 10.99.3.0/24"),
            (
                config("10.99.4.0/24", "", "10.99.5.1"),
                "invalid gateway 10.99.5.1: parent subnet 10.99.4.0/24 doesn't contain this address",
            ),
            (
                config("10.99.4.0/24", "10.88.0.0/24", ""),
                "invalid ip-range 10.88.0.0/24: parent subnet 10.99.4.0/24 doesn't contain ip-range",
            ),
        ] {
            assert_eq!(complaint(config), format!("{head}{text}"));
        }
    }

    #[test]
    fn several_complaints_come_together() {
        let text = complaint(config("10.99.3.5/24", "", "1.2.3.4"));
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("* ")), "{text}");
    }

    #[test]
    fn gateways_default_to_the_first_address() {
        let pool = resolve_config(&config("10.99.1.0/24", "", "")).unwrap();
        assert_eq!((pool.gateway.to_string().as_str(), pool.show_gateway), ("10.99.1.1", false));
        let pool = resolve_config(&config("10.99.1.0/24", "10.99.1.128/25", "")).unwrap();
        assert_eq!(pool.gateway.to_string(), "10.99.1.128");
        let pool = resolve_config(&config("10.99.1.0/24", "", "10.99.1.9")).unwrap();
        assert_eq!((pool.gateway.to_string().as_str(), pool.show_gateway), ("10.99.1.9", true));
    }
}
