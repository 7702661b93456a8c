//! Ports of the host that are taken by containers.
//!
//! Packets to a published port are redirected by rules; the sockets here carry none. They are bound (and for TCP
//! listen) only so that no other program takes the port, and so that a taken port is an error at once.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, listen, shutdown, socket_with, sockopt,
};
use weft_kernel::Netns;
use weft_types::{PortMapping, PortProtocol};

use crate::error::PortFailure;
use crate::spec::PortWish;

/// Where free ports are looked for, as Docker: the kernel's default range for outgoing connections.
const FREE_PORTS: std::ops::RangeInclusive<u16> = 32768..=60999;

type Key = (PortProtocol, IpAddr, u16);

/// The sockets that hold ports. They go with the daemon; rules stay.
#[derive(Debug)]
pub(crate) struct PortReservations {
    host: Netns,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    sockets: HashMap<Key, OwnedFd>,
    /// Those of the routing mesh, on all addresses of both families.
    mesh: HashMap<Key, OwnedFd>,
    /// Last port given out from [`FREE_PORTS`]; going on from there delays reuse.
    last_free: Option<u16>,
}

impl PortReservations {
    pub(crate) fn new(host: Netns) -> Self {
        Self { host, held: Mutex::default() }
    }

    /// Takes a port on all `addresses` at once, the first of the wished ones that is free everywhere.
    pub(crate) fn take(
        &self,
        wish: &PortWish,
        addresses: &[IpAddr],
        target: IpAddr,
    ) -> Result<Vec<PortMapping>, PortFailure> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let any = *wish.host_ports.end() == 0;
        let candidates: Vec<u16> =
            if any { held.free_candidates() } else { wish.host_ports.clone().collect() };
        let mut last = PortFailure::RangeExhausted;
        for port in &candidates {
            match self.take_one(&mut held, wish, addresses, *port, target) {
                Ok(mappings) => {
                    if any {
                        held.last_free = Some(*port);
                    }
                    return Ok(mappings);
                }
                Err(failure @ (PortFailure::Protocol(_) | PortFailure::Bind { .. })) if !any => {
                    // A taken port sends us on to the next of the range; an address that is not ours does not.
                    let taken =
                        matches!(&failure, PortFailure::Bind { reason, .. } if reason.contains("in use"));
                    if !taken || candidates.len() == 1 {
                        return Err(failure);
                    }
                    last = failure;
                }
                Err(failure @ PortFailure::Protocol(_)) => return Err(failure),
                Err(failure) => last = failure,
            }
        }
        if candidates.len() == 1 { Err(last) } else { Err(PortFailure::RangeExhausted) }
    }

    fn take_one(
        &self,
        held: &mut Held,
        wish: &PortWish,
        addresses: &[IpAddr],
        port: u16,
        target: IpAddr,
    ) -> Result<Vec<PortMapping>, PortFailure> {
        let mut taken: Vec<(Key, OwnedFd)> = Vec::new();
        for ip in addresses {
            let shown =
                if ip.is_ipv6() { format!("{ip}:{port}") } else { SocketAddr::new(*ip, port).to_string() };
            if held.is_taken(wish.protocol, *ip, port) {
                return Err(PortFailure::Allocated(shown));
            }
            match self.reserve(wish.protocol, SocketAddr::new(*ip, port)) {
                Ok(socket) => taken.push(((wish.protocol, *ip, port), socket)),
                Err(error) if is(&error, rustix::io::Errno::PROTONOSUPPORT) => {
                    return Err(PortFailure::Protocol(shown));
                }
                Err(error) => {
                    let target =
                        format!("{}/{}", SocketAddr::new(target, wish.container_port), wish.protocol);
                    let reason = if is(&error, rustix::io::Errno::ADDRINUSE) {
                        "address already in use".to_owned()
                    } else if is(&error, rustix::io::Errno::ADDRNOTAVAIL) {
                        "cannot assign requested address".to_owned()
                    } else {
                        error.to_string()
                    };
                    return Err(PortFailure::Bind { address: shown, target, reason });
                }
            }
        }
        let mapping = |(protocol, host_ip, host_port): Key| PortMapping {
            protocol,
            container_port: wish.container_port,
            host_ip,
            host_port,
        };
        let mappings = taken.iter().map(|(key, _)| mapping(*key)).collect();
        held.sockets.extend(taken);
        Ok(mappings)
    }

    /// Holds ports again that containers had before the daemon restarted. Says which cannot be held; their rules
    /// stand all the same.
    pub(crate) fn retake(&self, mappings: &[PortMapping]) -> Vec<PortMapping> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missed = Vec::new();
        for mapping in mappings {
            let key = (mapping.protocol, mapping.host_ip, mapping.host_port);
            if held.sockets.contains_key(&key) {
                continue;
            }
            match self.reserve(mapping.protocol, SocketAddr::new(mapping.host_ip, mapping.host_port)) {
                Ok(socket) => {
                    held.sockets.insert(key, socket);
                }
                Err(_) => missed.push(mapping.clone()),
            }
        }
        missed
    }

    /// Holds the routing mesh's ports, whole: others of it are let go. Gives those that another program has.
    pub(crate) fn hold_mesh(&self, ports: &BTreeSet<(PortProtocol, u16)>) -> BTreeSet<(PortProtocol, u16)> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.mesh.retain(|(protocol, _, port), socket| {
            let stays = ports.contains(&(*protocol, *port));
            if !stays {
                let_go(socket);
            }
            stays
        });
        let mut occupied = BTreeSet::new();
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for ((protocol, port), ip) in ports.iter().flat_map(|port| any.map(|ip| (*port, ip))) {
            let key = (protocol, ip, port);
            if held.mesh.contains_key(&key) {
                continue;
            }
            match self.reserve(protocol, SocketAddr::new(ip, port)) {
                Ok(socket) => {
                    held.mesh.insert(key, socket);
                }
                Err(error) if is(&error, rustix::io::Errno::ADDRINUSE) => {
                    occupied.insert((protocol, port));
                }
                // A host without this family or protocol has nobody to take the port either.
                Err(error) => tracing::debug!(%protocol, port, %error, "port of the routing mesh not held"),
            }
        }
        occupied
    }

    /// Lets ports go.
    pub(crate) fn release(&self, mappings: &[PortMapping]) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for mapping in mappings {
            let socket = held.sockets.remove(&(mapping.protocol, mapping.host_ip, mapping.host_port));
            if let Some(socket) = socket {
                let_go(&socket);
            }
        }
    }

    fn reserve(&self, protocol: PortProtocol, address: SocketAddr) -> io::Result<OwnedFd> {
        let open = move || -> io::Result<OwnedFd> {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let (kind, number) = match protocol {
                PortProtocol::Tcp => (SocketType::STREAM, None),
                PortProtocol::Udp => (SocketType::DGRAM, None),
                PortProtocol::Sctp => (SocketType::STREAM, Some(rustix::net::ipproto::SCTP)),
            };
            let socket = socket_with(family, kind, SocketFlags::CLOEXEC, number)?;
            if address.is_ipv6() {
                sockopt::set_ipv6_v6only(&socket, true)?;
            }
            if protocol == PortProtocol::Tcp {
                // Connections of an earlier holder that linger in TIME_WAIT do not count.
                sockopt::set_socket_reuseaddr(&socket, true)?;
            }
            bind(&socket, &address)?;
            if protocol != PortProtocol::Udp {
                listen(&socket, 1)?;
            }
            Ok(socket)
        };
        self.host.run_in(open).map_err(io::Error::other)?
    }
}

/// Ends listening before the socket is closed: a process that is being started at this moment has a copy of it until it
/// executes its program, and the next one to take the port would find it in use.
fn let_go(socket: &OwnedFd) {
    // A socket that does not listen has nothing to end.
    let _ = shutdown(socket, Shutdown::Read);
}

fn is(error: &io::Error, errno: rustix::io::Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

impl Held {
    /// Taken here: on that very address, or on or by "all addresses".
    fn is_taken(&self, protocol: PortProtocol, ip: IpAddr, port: u16) -> bool {
        self.sockets.keys().chain(self.mesh.keys()).any(|(p, other, number)| {
            *p == protocol
                && *number == port
                && other.is_ipv4() == ip.is_ipv4()
                && (*other == ip || other.is_unspecified() || ip.is_unspecified())
        })
    }

    fn free_candidates(&self) -> Vec<u16> {
        let next = self.last_free.and_then(|last| last.checked_add(1)).filter(|n| FREE_PORTS.contains(n));
        let start = next.unwrap_or(*FREE_PORTS.start());
        (start..=*FREE_PORTS.end()).chain(*FREE_PORTS.start()..start).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(ports: std::ops::RangeInclusive<u16>) -> PortWish {
        PortWish { protocol: PortProtocol::Tcp, container_port: 80, host_ip: None, host_ports: ports }
    }

    fn any() -> IpAddr {
        [0, 0, 0, 0].into()
    }

    #[test]
    fn a_taken_port_is_refused_in_dockers_words() {
        let reservations = PortReservations::new(Netns::anonymous().unwrap());
        let target: IpAddr = [172, 17, 0, 2].into();
        let first = reservations.take(&wish(8080..=8080), &[any()], target).unwrap();
        let text = |r: Result<Vec<PortMapping>, PortFailure>| r.unwrap_err().to_string();
        let again = reservations.take(&wish(8080..=8080), &[any()], target);
        assert_eq!(text(again), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let local = reservations.take(&wish(8080..=8080), &[[127, 0, 0, 1].into()], target);
        assert_eq!(text(local), "Bind for 127.0.0.1:8080 failed: port is already allocated");
        let range = reservations.take(&wish(8080..=8082), &[any()], target).unwrap();
        assert_eq!(range[0].host_port, 8081);
        let foreign = reservations.take(&wish(81..=81), &[[192, 0, 2, 1].into()], target);
        assert_eq!(
            text(foreign),
            "failed to bind host port for 192.0.2.1:81:172.17.0.2:80/tcp: cannot assign requested address"
        );
        reservations.release(&first);
        assert_eq!(reservations.take(&wish(8080..=8080), &[any()], target).unwrap(), first);
    }

    #[test]
    fn a_port_that_was_let_go_is_free_although_a_copy_of_its_socket_is_left() {
        let reservations = PortReservations::new(Netns::anonymous().unwrap());
        let target: IpAddr = [172, 17, 0, 2].into();
        let first = reservations.take(&wish(8080..=8080), &[any()], target).unwrap();
        let copies: Vec<OwnedFd> =
            reservations.held.lock().unwrap().sockets.values().map(|s| s.try_clone().unwrap()).collect();
        assert_eq!(copies.len(), 1);
        reservations.release(&first);
        assert_eq!(reservations.take(&wish(8080..=8080), &[any()], target).unwrap(), first);
    }

    #[test]
    fn ports_of_other_programs_are_refused() {
        let host = Netns::anonymous().unwrap();
        let _other = host.tcp_listener("0.0.0.0:8080".parse().unwrap()).unwrap();
        let reservations = PortReservations::new(host);
        let failure = reservations.take(&wish(8080..=8080), &[any()], [172, 17, 0, 2].into()).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use"
        );
    }

    #[test]
    fn ports_of_the_routing_mesh_are_held_whole() {
        let host = Netns::anonymous().unwrap();
        let _other = host.tcp_listener("0.0.0.0:8081".parse().unwrap()).unwrap();
        let reservations = PortReservations::new(host);
        let port = |number| (PortProtocol::Tcp, number);
        assert_eq!(reservations.hold_mesh(&[port(8080), port(8081)].into()), [port(8081)].into());
        let again = reservations.take(&wish(8080..=8080), &[any()], [172, 17, 0, 2].into());
        assert_eq!(again.unwrap_err().to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        assert!(reservations.hold_mesh(&BTreeSet::new()).is_empty());
        reservations.take(&wish(8080..=8080), &[any()], [172, 17, 0, 2].into()).unwrap();
    }

    #[test]
    fn free_ports_go_up_from_the_range() {
        let reservations = PortReservations::new(Netns::anonymous().unwrap());
        let take = || reservations.take(&wish(0..=0), &[any()], [172, 17, 0, 2].into()).unwrap();
        let first = take();
        assert_eq!(first[0].host_port, 32768);
        reservations.release(&first);
        assert_eq!(take()[0].host_port, 32769);
    }
}
