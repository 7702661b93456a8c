//! The stateless way to the resolver, with either hook, beside a container's own name server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::*;
use std::io::{Read, Write};
use weft_kernel::{Capabilities, Netns};
use weft_plan::*;

/// A resolver at ports the kernel picks that answers `words`, and the redirect to it.
fn resolver(netns: &Netns, hook: ResolverHook) -> ResolverRedirect {
    let udp = netns.udp_socket("127.0.0.11:0".parse().unwrap()).unwrap();
    let tcp = netns.tcp_listener("127.0.0.11:0".parse().unwrap()).unwrap();
    let redirect = ResolverRedirect {
        udp: udp.local_addr().unwrap().port(),
        tcp: tcp.local_addr().unwrap().port(),
        hook,
    };
    echo(udp, tcp, "resolver");
    redirect
}

fn echo(udp: UdpSocket, tcp: TcpListener, words: &'static str) {
    udp.set_nonblocking(false).unwrap();
    tcp.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((_, from)) = udp.recv_from(&mut query) {
            udp.send_to(words.as_bytes(), from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let _ = stream.write_all(words.as_bytes());
        }
    });
}

fn ask(netns: &Netns, server: &str) -> (String, String) {
    let by_udp = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        // Connected: an answer from another port than 53 would not be taken.
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send(b"query").unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap_or_default();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let by_tcp = || {
        let mut answer = String::new();
        let Ok(mut stream) = TcpStream::connect_timeout(&server.parse().unwrap(), Duration::from_secs(2))
        else {
            return answer;
        };
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    netns.run_in(|| (by_udp(), by_tcp())).unwrap()
}

fn container(hook: ResolverHook) -> (Place, NamespaceState) {
    let place = Place::new();
    let sandbox = Sandbox { resolver: Some(resolver(&place.netns, hook)), ..Sandbox::default() };
    let state = sandbox.plan();
    clean(&place.kernel, &state);
    (place, state)
}

fn check(hook: ResolverHook) {
    let (place, state) = container(hook);
    let both = |words: &str| (words.to_owned(), words.to_owned());
    assert_eq!(ask(&place.netns, "127.0.0.11:53"), both("resolver"), "{hook:?}");
    // The container's own name server on all addresses, port 53.
    let udp = place.netns.udp_socket("0.0.0.0:53".parse().unwrap()).unwrap();
    let tcp = place.netns.tcp_listener("0.0.0.0:53".parse().unwrap()).unwrap();
    echo(udp, tcp, "own");
    assert_eq!(ask(&place.netns, "127.0.0.1:53"), both("own"), "{hook:?}");
    assert_eq!(ask(&place.netns, "127.0.0.11:53"), both("resolver"), "{hook:?}");
    // Nothing was tracked on the way.
    let tracked = place.kernel.sysctl_blocking("net/netfilter/nf_conntrack_count").unwrap();
    assert_eq!(tracked.as_deref().unwrap_or("0"), "0", "{hook:?}");
    ok(&place.netns, "nft flush ruleset");
    assert_ne!(ask(&place.netns, "127.0.0.11:53"), both("resolver"), "without the table");
    clean(&place.kernel, &state);
    assert_eq!(ask(&place.netns, "127.0.0.11:53"), both("resolver"), "{hook:?}");
}

#[test]
fn the_output_hook_works_everywhere() {
    check(ResolverHook::RawOutput);
}

#[test]
fn the_egress_hook_works_where_the_kernel_has_it() {
    if Capabilities::probe_blocking().unwrap().nft_egress {
        check(ResolverHook::NetdevEgress);
    }
}
