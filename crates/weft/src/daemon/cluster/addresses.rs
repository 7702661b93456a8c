//! What the user says of addresses (`--listen-addr`, `--advertise-addr`, `--data-path-addr`) made definite.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use weft_api::{SwarmError, SwarmResult};

/// SwarmKit's port for managers.
pub(super) const MANAGER_PORT: u16 = 2377;

/// The addresses of this node in a swarm.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct NodeAddresses {
    /// Where a manager listens.
    pub(super) listen: SocketAddr,
    /// What other nodes are told.
    pub(super) advertise: SocketAddr,
    /// Where VXLAN comes and goes.
    pub(super) data_path: IpAddr,
    /// Interfaces that had these addresses. An address that is on none, as behind a translating router, is not here.
    #[serde(default)]
    pub(super) places: BTreeMap<IpAddr, String>,
}

/// An interface of this host with its usable addresses.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    name: String,
    addresses: Vec<IpAddr>,
}

/// As the user typed them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) listen: &'a str,
    pub(super) advertise: &'a str,
    pub(super) data_path: &'a str,
}

impl NodeAddresses {
    /// Resolves what was typed against this host's interfaces. `towards` is a manager that the node will join: without
    /// an advertise address the one is taken that the host would use to reach it.
    pub(super) fn resolve(
        wanted: Wanted<'_>,
        towards: Option<SocketAddr>,
        interfaces: &[Interface],
    ) -> SwarmResult<Self> {
        let listen = listen_address(wanted.listen, interfaces)?;
        let advertise = match wanted.advertise {
            "" if !listen.ip().is_unspecified() => listen,
            "" => SocketAddr::new(own_address(towards, interfaces)?, listen.port()),
            given => advertise_address(given, listen.port(), interfaces)?,
        };
        let data_path = match wanted.data_path {
            "" => advertise.ip(),
            given => address_or_interface(given, interfaces).ok_or(SwarmError::DataPathAddress)?,
        };
        let places = [listen.ip(), advertise.ip(), data_path].into_iter().filter_map(|address| {
            let interface = interfaces.iter().find(|it| it.addresses.contains(&address))?;
            Some((address, interface.name.clone()))
        });
        Ok(Self { listen, advertise, data_path, places: places.collect() })
    }

    /// The addresses as they are now: one that its interface no longer has, and no other, is the one that the interface
    /// has instead. As long as it has none, nothing is known of a change.
    pub(super) fn renewed(&self, interfaces: &[Interface]) -> Self {
        let mut places = self.places.clone();
        let mut renew = |address: IpAddr| {
            let moved = self.places.get(&address).filter(|_| !is_here(address, interfaces));
            let successor = moved.and_then(|name| {
                let of_family = |it: &&IpAddr| it.is_ipv4() == address.is_ipv4();
                let interface = interfaces.iter().find(|it| it.name == *name)?;
                Some((interface.addresses.iter().find(of_family)?, name))
            });
            let Some((successor, name)) = successor else { return address };
            places.remove(&address);
            places.insert(*successor, name.clone());
            *successor
        };
        let listen = SocketAddr::new(renew(self.listen.ip()), self.listen.port());
        let advertise = SocketAddr::new(renew(self.advertise.ip()), self.advertise.port());
        let data_path = renew(self.data_path);
        Self { listen, advertise, data_path, places }
    }
}

fn is_here(address: IpAddr, interfaces: &[Interface]) -> bool {
    interfaces.iter().any(|interface| interface.addresses.contains(&address))
}

/// `address`, `address:port`, `interface` or `interface:port`.
fn listen_address(given: &str, interfaces: &[Interface]) -> SwarmResult<SocketAddr> {
    let given = if given.is_empty() { "0.0.0.0:2377" } else { given };
    let refused =
        |reason: &str| SwarmError::ListenAddress { given: given.to_owned(), reason: reason.to_owned() };
    let (host, port) = split_port(given, MANAGER_PORT).ok_or_else(|| refused("the port is not a number"))?;
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => interface_address(host, interfaces)
            .ok_or_else(|| refused("want an IP address or an interface of this host, with optional port"))?,
    };
    Ok(SocketAddr::new(ip, port))
}

fn advertise_address(given: &str, port: u16, interfaces: &[Interface]) -> SwarmResult<SocketAddr> {
    let (host, port) = split_port(given, port).ok_or(SwarmError::AdvertiseAddress)?;
    let ip = address_or_interface(host, interfaces).ok_or(SwarmError::AdvertiseAddress)?;
    Ok(SocketAddr::new(ip, port))
}

fn address_or_interface(given: &str, interfaces: &[Interface]) -> Option<IpAddr> {
    match given.parse::<IpAddr>() {
        Ok(ip) => Some(ip).filter(|ip| !ip.is_unspecified()),
        Err(_) => interface_address(given, interfaces),
    }
}

/// Splits `host:port`; a bare IPv6 address has no port.
fn split_port(text: &str, default: u16) -> Option<(&str, u16)> {
    if text.parse::<IpAddr>().is_ok() {
        return Some((text, default));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?)),
        None => Some((text, default)),
    }
}

/// The address of a named interface: IPv4 before IPv6.
fn interface_address(name: &str, interfaces: &[Interface]) -> Option<IpAddr> {
    let found = interfaces.iter().find(|i| i.name == name)?;
    found.addresses.iter().find(|a| a.is_ipv4()).or(found.addresses.first()).copied()
}

/// The address that an interface of this host has.
pub(in crate::daemon) fn address_of_interface(name: &str) -> Option<IpAddr> {
    interface_address(name, &interfaces())
}

/// The one address this host has, or the one it would use towards a manager.
fn own_address(towards: Option<SocketAddr>, interfaces: &[Interface]) -> SwarmResult<IpAddr> {
    if let Some(local) = towards.and_then(source_towards) {
        return Ok(local);
    }
    let candidates: Vec<(IpAddr, &str)> = interfaces
        .iter()
        .filter(|i| !is_ours(&i.name))
        .flat_map(|i| i.addresses.iter().map(|a| (*a, i.name.as_str())))
        .collect();
    let of_family = |v4: bool| candidates.iter().filter(|(a, _)| a.is_ipv4() == v4).collect::<Vec<_>>();
    let found = match of_family(true) {
        v4 if v4.is_empty() => of_family(false),
        v4 => v4,
    };
    match found.as_slice() {
        [(address, _)] => Ok(*address),
        [] => Err(SwarmError::AdvertiseAddress),
        [(first, on), .., (last, other)] if on != other => Err(SwarmError::AmbiguousAddress(format!(
            "on different interfaces ({first} on {on} and {last} on {other})"
        ))),
        [(first, on), .., (last, _)] => {
            Err(SwarmError::AmbiguousAddress(format!("on interface {on} ({first} and {last})")))
        }
    }
}

/// Bridges that the daemon itself made cannot be reached by other hosts.
fn is_ours(interface: &str) -> bool {
    interface == "lo"
        || interface.starts_with("docker")
        || interface.starts_with("br-")
        || interface.starts_with("veth")
}

/// The source address that the kernel would choose; nothing is sent.
fn source_towards(manager: SocketAddr) -> Option<IpAddr> {
    let any = if manager.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(manager).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

/// This host's interfaces with their addresses, without loopback and link-local ones.
pub(super) fn interfaces() -> Vec<Interface> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = entry.address else { continue };
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        if ip.is_loopback() || matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            continue;
        }
        match found.iter_mut().find(|i| i.name == entry.interface_name) {
            Some(interface) => interface.addresses.push(ip),
            None => found.push(Interface { name: entry.interface_name, addresses: vec![ip] }),
        }
    }
    found
}

/// Looks a manager's `host[:port]` up.
pub(super) async fn manager_address(given: &str) -> SwarmResult<SocketAddr> {
    let refused = |why: String| SwarmError::Failed {
        kind: weft_types::ErrorKind::InvalidParameter,
        message: format!("invalid remote address {given:?}: {why}"),
    };
    let (host, port) =
        split_port(given, MANAGER_PORT).ok_or_else(|| refused("the port is not a number".to_owned()))?;
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(|e| refused(e.to_string()))?;
    found.next().ok_or_else(|| refused("the name has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Interface> {
        let interface =
            |name: &str, ip: &str| Interface { name: name.to_owned(), addresses: vec![ip.parse().unwrap()] };
        vec![interface("eth0", "10.0.0.1"), interface("eth1", "10.1.0.1"), interface("docker0", "172.17.0.1")]
    }

    fn resolve(
        listen: &str,
        advertise: &str,
        data_path: &str,
        interfaces: &[Interface],
    ) -> SwarmResult<NodeAddresses> {
        NodeAddresses::resolve(Wanted { listen, advertise, data_path }, None, interfaces)
    }

    #[test]
    fn interfaces_stand_for_their_address() {
        let found = resolve("0.0.0.0:2377", "eth0", "eth1", &two()).unwrap();
        assert_eq!(found.advertise, "10.0.0.1:2377".parse().unwrap());
        assert_eq!(found.data_path, "10.1.0.1".parse::<IpAddr>().unwrap());
        let found = resolve("eth1:99", "", "", &two()).unwrap();
        assert_eq!(found.advertise, "10.1.0.1:99".parse().unwrap());
        assert_eq!(
            resolve("[::1]:5", "fd00::1", "", &two()).unwrap().advertise,
            "[fd00::1]:5".parse().unwrap()
        );
    }

    #[test]
    fn one_address_needs_no_advertise_address_and_several_do() {
        assert_eq!(
            resolve("0.0.0.0:2377", "", "", &two()[..1]).unwrap().advertise,
            "10.0.0.1:2377".parse().unwrap()
        );
        let error = resolve("0.0.0.0:2377", "", "", &two()).unwrap_err().to_string();
        assert!(error.contains("10.0.0.1 on eth0 and 10.1.0.1 on eth1"), "{error}");
    }

    #[test]
    fn an_address_is_followed_to_what_its_interface_has_now() {
        let node = resolve("0.0.0.0:2377", "eth0:77", "eth1", &two()).unwrap();
        assert_eq!(node.renewed(&two()), node);
        let mut moved = two();
        moved[0].addresses = vec!["fd00::9".parse().unwrap(), "10.0.0.9".parse().unwrap()];
        let now = node.renewed(&moved);
        assert_eq!((now.advertise, now.data_path), ("10.0.0.9:77".parse().unwrap(), node.data_path));
        assert_eq!(now.renewed(&two()), node, "and back");
        // The interface is not up yet, or the address moved to another: nobody knows better.
        assert_eq!(node.renewed(&moved[1..]), node);
        moved[1].addresses.push("10.0.0.1".parse().unwrap());
        assert_eq!(node.renewed(&moved).advertise, node.advertise);
        // Never on an interface of this host: other nodes know it, we do not.
        let outside = resolve("0.0.0.0:2377", "192.0.2.1", "eth1", &two()).unwrap();
        assert_eq!(outside.renewed(&moved), outside);
    }

    #[test]
    fn what_names_nothing_here_is_refused() {
        assert_eq!(resolve("0.0.0.0:2377", "nosuchif", "", &two()), Err(SwarmError::AdvertiseAddress));
        assert_eq!(resolve("0.0.0.0:2377", "0.0.0.0", "", &two()), Err(SwarmError::AdvertiseAddress));
        assert_eq!(resolve("0.0.0.0:2377", "eth0", "9.9.9.9x", &two()), Err(SwarmError::DataPathAddress));
        assert!(matches!(resolve("nowhere", "", "", &two()), Err(SwarmError::ListenAddress { .. })));
    }
}
