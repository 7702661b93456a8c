//! Containers on one bridge, services, and who answers.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use weft_kernel::Netns;
use weft_plan::*;
use weft_types::Mtu;

use crate::common::*;

pub(crate) const VIP: &str = "10.0.1.100";
pub(crate) const VIP6: &str = "fd00:1::100";
pub(crate) const EMPTY: &str = "10.0.1.101";
pub(crate) const EMPTY6: &str = "fd00:1::101";

/// Containers 10.0.1.n and fd00:1::n on one bridge.
pub(crate) struct World {
    pub(crate) containers: BTreeMap<u8, Place>,
    _switch: Place,
    pub(crate) engine: BalanceEngine,
}

impl World {
    pub(crate) fn new(numbers: impl IntoIterator<Item = u8>, engine: BalanceEngine) -> Self {
        let switch = Place::new();
        let mut state = NamespaceState::empty();
        state
            .links
            .insert(name("sw0"), Link::new(LinkKind::Bridge(BridgeOptions { multicast_snooping: false })));
        let containers: BTreeMap<u8, Place> = numbers.into_iter().map(|n| (n, Place::new())).collect();
        for (n, place) in &containers {
            let peer = VethPeer {
                mtu: Some(Mtu::ETHERNET),
                ..VethPeer::plain(place.netns.reference(), name("eth0"))
            };
            let kind = LinkKind::Veth(Some(peer));
            let link = Link { master: Some(name("sw0")), mtu: Some(Mtu::ETHERNET), ..Link::new(kind) };
            state.links.insert(name(&format!("c{n}")), link);
        }
        clean(&switch.kernel, &state);
        let world = Self { containers, _switch: switch, engine };
        for n in world.containers.keys() {
            clean(&world[*n].kernel, &world.state(*n, &NamespaceState::empty()));
        }
        world
    }

    pub(crate) fn state(&self, n: u8, balance: &NamespaceState) -> NamespaceState {
        let mut state = NamespaceState::empty();
        state.links.insert(LinkName::lo(), Link::new(LinkKind::Loopback));
        state.links.insert(name("eth0"), Link::new(LinkKind::VethEnd));
        for address in [net(&format!("10.0.1.{n}/24")), net(&format!("fd00:1::{n:x}/64"))] {
            state.addresses.insert(Address { link: name("eth0"), address });
        }
        state.set_for_test("net/ipv6/conf/eth0/accept_dad", "0");
        state.merge(balance.clone());
        state
    }

    pub(crate) fn balancer(&self, weights: &[(u8, u16)]) -> Balancer {
        let of = |address: fn(u8) -> IpAddr| {
            BalancedService::new(weights.iter().map(|(n, weight)| (address(*n), *weight)).collect(), None)
        };
        let services = [
            (ip(VIP), of(|n| v4(n).into())),
            (ip(VIP6), of(|n| ip(&format!("fd00:1::{n:x}")))),
            (ip(EMPTY), BalancedService::default()),
            (ip(EMPTY6), BalancedService::default()),
        ];
        Balancer { engine: self.engine, sockets: true, tracked: Vec::new(), services: services.into() }
    }

    /// In these containers, the services with these tasks.
    pub(crate) fn balance(&self, containers: &[u8], weights: &[(u8, u16)]) {
        let plan = self.balancer(weights).plan();
        for n in containers {
            clean(&self[*n].kernel, &self.state(*n, &plan));
        }
    }
}

impl std::ops::Index<u8> for World {
    type Output = Place;
    fn index(&self, n: u8) -> &Place {
        &self.containers[&n]
    }
}

pub(crate) trait SetForTest {
    fn set_for_test(&mut self, key: &str, value: &str);
}

impl SetForTest for NamespaceState {
    fn set_for_test(&mut self, key: &str, value: &str) {
        self.sysctls.insert(key.to_owned(), value.to_owned());
    }
}

/// Servers in `containers` that answer with their number, over both families.
pub(crate) fn servers(world: &World, containers: &[u8], port: u16) {
    for n in containers {
        let words: &'static str = Box::leak(n.to_string().into_boxed_str());
        serve(&world[*n].netns, &format!("[::]:{port}"), words);
        let socket = world[*n].netns.udp_socket(format!("[::]:{port}").parse().unwrap()).unwrap();
        socket.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            let mut query = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut query) {
                let _ = socket.send_to(words.as_bytes(), from);
            }
        });
    }
}

pub(crate) fn tracked(netns: &Netns) -> u32 {
    let count =
        netns.run_in(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap());
    count.unwrap().trim().parse().unwrap()
}

pub(crate) fn spread(netns: &Netns, address: &str, times: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        *answers.entry(fetch(netns, address).unwrap_or_default()).or_default() += 1;
    }
    answers
}

/// A connection from this port, which is free again at once.
pub(crate) fn connect_from(port: u16, to: SocketAddr) -> Option<TcpStream> {
    use nix::sys::socket::*;
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&socket, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    let SocketAddr::V4(to) = to else { return None };
    let here = SockaddrIn::new(0, 0, 0, 0, port);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &here).unwrap();
    connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(to)).ok()?;
    Some(TcpStream::from(socket))
}

pub(crate) fn fetch_from(port: u16, to: SocketAddr) -> Option<String> {
    let mut stream = connect_from(port, to)?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut words = [0; 1];
    stream.read_exact(&mut words).ok()?;
    // To close is not enough for the port to be free: a program that another test starts has the socket until it runs.
    rustix::net::connect_unspec(&stream).unwrap();
    Some(String::from_utf8_lossy(&words).into_owned())
}

pub(crate) fn alive(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answer = [0; 1];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut answer).is_ok()
}

/// A server in the namespace that gives back what it gets, a line at a time, until the connection ends.
pub(crate) fn echo(netns: &Netns, address: &str) {
    let listener = netns.run_in(|| TcpListener::bind(address).unwrap()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 16];
                while let Ok(length) = stream.read(&mut bytes)
                    && length > 0
                    && stream.write_all(&bytes[..length]).is_ok()
                {}
            });
        }
    });
}

/// A server in the namespace that answers every connection with the port that it comes from.
pub(crate) fn peers(netns: &Netns, port: u16) {
    let listener = netns.run_in(|| TcpListener::bind(format!("[::]:{port}")).unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let port = stream.peer_addr().map(|peer| peer.port()).unwrap_or_default();
            let _ = stream.write_all(port.to_string().as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            held.push(stream);
        }
    });
}
