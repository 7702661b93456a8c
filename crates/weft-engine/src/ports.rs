//! Published ports: Docker's way of writing them, and back.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use bollard_stubs::models::{PortBinding, PortMap};
use weft_network::PortWish;
use weft_types::{PortMapping, PortProtocol};

use crate::error::EngineError;

fn invalid(text: &str) -> EngineError {
    EngineError::Invalid(format!("invalid port specification: {text:?}"))
}

/// Parses `80/tcp`.
pub(crate) fn parse_port(text: &str) -> Result<(u16, PortProtocol), EngineError> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = number.parse::<u16>().map_err(|_| invalid(text))?;
    let protocol = protocol.parse().map_err(|_| invalid(text))?;
    Ok((number, protocol))
}

/// Parses `8080`, `8000-8010` or nothing.
fn parse_range(text: &str) -> Result<RangeInclusive<u16>, EngineError> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid(text));
    match text.split_once('-') {
        None if text.is_empty() => Ok(0..=0),
        None => number(text).map(|port| port..=port),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last || first == 0 { Err(invalid(text)) } else { Ok(first..=last) }
        }
    }
}

/// What is to be published: the bindings, and with `all` every exposed port that has none.
pub(crate) fn wishes(
    bindings: &PortMap,
    exposed: &[String],
    all: bool,
) -> Result<Vec<PortWish>, EngineError> {
    let mut wishes = Vec::new();
    for (port, bindings) in bindings {
        let (container_port, protocol) = parse_port(port)?;
        for binding in bindings.iter().flatten() {
            let host_ip = match binding.host_ip.as_deref() {
                None | Some("") => None,
                Some(text) => {
                    let address = text.trim_matches(['[', ']']).parse::<IpAddr>();
                    Some(address.map_err(|_| EngineError::Invalid(format!("invalid IP address: {text}")))?)
                }
            };
            let host_ports = parse_range(binding.host_port.as_deref().unwrap_or_default())?;
            wishes.push(PortWish { protocol, container_port, host_ip, host_ports });
        }
    }
    if all {
        for port in exposed.iter().filter(|port| !bindings.contains_key(*port)) {
            let (container_port, protocol) = parse_port(port)?;
            wishes.push(PortWish { protocol, container_port, host_ip: None, host_ports: 0..=0 });
        }
    }
    wishes.sort_by_key(|wish| (wish.container_port, wish.protocol, *wish.host_ports.start()));
    Ok(wishes)
}

/// What is published, as inspect shows it.
pub(crate) fn shown(mappings: &[PortMapping]) -> PortMap {
    let mut ports = PortMap::new();
    for mapping in mappings {
        let key = format!("{}/{}", mapping.container_port, mapping.protocol);
        ports.entry(key).or_default().get_or_insert_default().push(PortBinding {
            host_ip: Some(mapping.host_ip.to_string()),
            host_port: Some(mapping.host_port.to_string()),
        });
    }
    ports
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binding(ip: &str, port: &str) -> PortBinding {
        PortBinding { host_ip: Some(ip.to_owned()), host_port: Some(port.to_owned()) }
    }

    #[test]
    fn bindings_become_wishes() {
        let map = PortMap::from([
            ("80/tcp".to_owned(), Some(vec![binding("", "8080"), binding("127.0.0.1", "9000-9002")])),
            ("53/udp".to_owned(), Some(vec![binding("::", "")])),
        ]);
        let wishes = wishes(&map, &["80/tcp".to_owned(), "443/tcp".to_owned()], true).unwrap();
        let shown: Vec<_> = wishes.iter().map(|w| (w.container_port, w.host_ports.clone())).collect();
        assert_eq!(shown, [(53, 0..=0), (80, 8080..=8080), (80, 9000..=9002), (443, 0..=0)]);
    }

    #[test]
    fn malformed_ports_are_refused() {
        let one = |port: &str, ip: &str, host: &str| {
            let map = PortMap::from([(port.to_owned(), Some(vec![binding(ip, host)]))]);
            wishes(&map, &[], false).unwrap_err().to_string()
        };
        assert_eq!(one("x", "", ""), "invalid port specification: \"x\"");
        assert_eq!(one("80/bogus", "", ""), "invalid port specification: \"80/bogus\"");
        assert_eq!(one("80/tcp", "", "70000"), "invalid port specification: \"70000\"");
        assert_eq!(one("80/tcp", "", "10-9"), "invalid port specification: \"10-9\"");
        assert_eq!(one("80/tcp", "nowhere", ""), "invalid IP address: nowhere");
    }

    proptest! {
        #[test]
        fn any_port_is_read_or_refused(port in "[0-9]{0,6}(/[a-z]{0,4})?|\\PC{0,8}", ip in "[0-9a-f.:]{0,12}", host in "[0-9-]{0,12}") {
            let map = PortMap::from([(port.clone(), Some(vec![binding(&ip, &host)]))]);
            if let Ok(wishes) = wishes(&map, &[port], true) {
                prop_assert!(wishes.iter().all(|wish| wish.host_ports.start() <= wish.host_ports.end()));
            }
        }
    }
}
