//! The fast path on real namespaces: two hosts, containers on each, the bridges below.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/fast.rs"]
mod fast;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::*;
use fast::*;
use nix::poll::{PollFd, PollFlags, poll};
use weft_kernel::{Attachment, FastPathEngine, Tap};
use weft_plan::*;
use weft_types::MacAddr;

fn everything_flows(a: &Fast, b: &Fast) {
    let (from, to) = (a.container(), b.container());
    // Neighbours are known, and all that comes now is known stations' unicast.
    for address in ["10.0.1.3", "fd00:1::3"] {
        assert!(pings(from, address), "{address}");
    }
    let (at_a, at_b) = (a.counters(), b.counters());
    floods(from, "10.0.1.3", 50);
    floods(from, "fd00:1::3", 50);
    assert!(run(from, "ping -n -c 1 -W 1 -M do -s 1422 10.0.1.3").0, "a packet of the full MTU");
    transfer(from, to, "10.0.1.3:9001", 20 << 20);
    transfer(from, to, "[fd00:1::3]:9002", 20 << 20);
    transfer(to, from, "10.0.1.2:9003", 20 << 20);
    let (by_a, by_b) = (a.carried(&at_a), b.carried(&at_b));
    for by in [by_a, by_b] {
        assert!(by.encapsulated > 400 && by.decapsulated > 400, "{by:?}");
        assert_eq!(by.received, by.decapsulated, "{by:?}");
        assert_eq!((by.errors, by.unroutable, by.wrong_sender), (0, 0, 0), "{by:?}");
        assert!(by.slow_path < 40, "{by:?}");
    }
}

#[test]
fn containers_reach_each_other_past_the_bridges() {
    let (a, b, _neighbour, _switch) = two(best());
    everything_flows(&a, &b);
}

#[test]
fn filters_do_the_same_where_there_is_no_tcx() {
    let (a, b, _neighbour, _switch) = two(Attachment::Filter);
    everything_flows(&a, &b);
}

#[test]
fn neighbours_on_a_host_are_served_directly() {
    let (a, _b, neighbour, _switch) = two(best());
    assert!(pings(a.container(), "10.0.1.9"));
    let before = a.counters();
    floods(a.container(), "10.0.1.9", 30);
    floods(a.container(), "fd00:1::9", 30);
    transfer(a.container(), &neighbour.netns, "10.0.1.9:9001", 20 << 20);
    let by = a.carried(&before);
    assert!(by.delivered > 200 && by.encapsulated == 0 && by.errors == 0, "{by:?}");
    // Not on the fast path: the gateway, broadcast.
    assert!(pings(a.container(), "10.0.1.1"));
}

#[test]
fn a_restarted_daemon_finds_all_as_it_was() {
    let (mut a, b, _neighbour, _switch) = two(best());
    assert!(pings(a.container(), "10.0.1.3"));
    let before = a.counters();
    drop(a.engine.take());
    floods(a.container(), "10.0.1.3", 20);
    a.engine = Some(FastPathEngine::open_blocking(&a.folder.path()).unwrap());
    assert!(a.carried(&before).encapsulated >= 20);
    let report = a.reconcile();
    assert!(report.is_unchanged(), "{report:?}");
    a.restart();
    assert!(a.reconcile().is_unchanged());
    assert!(pings(b.container(), "10.0.1.2"));
}

#[test]
fn the_other_end_may_be_any_vxlan() {
    let (mut nodes, _neighbour, _switch) = prepared();
    let plain = nodes.pop().unwrap();
    let a = Fast::new(nodes.pop().unwrap(), best());
    let (from, to) = (a.container(), &plain.container.netns);
    for offloads in ["on", "off"] {
        for host in [&a.node.host.netns, &plain.host.netns] {
            let wires = format!("ethtool -K eth0 tso {offloads} gso {offloads} gro {offloads} tx {offloads}");
            ok(host, &wires);
        }
        for address in ["10.0.1.3", "fd00:1::3"] {
            assert!(pings(from, address), "{address}");
        }
        let before = a.counters();
        transfer(from, to, "10.0.1.3:9001", 8 << 20);
        transfer(from, to, "[fd00:1::3]:9002", 8 << 20);
        transfer(to, from, "10.0.1.2:9003", 8 << 20);
        transfer(to, from, "[fd00:1::2]:9004", 8 << 20);
        let by = a.carried(&before);
        assert!(by.encapsulated > 200 && by.decapsulated > 200 && by.slow_path < 20, "{offloads}: {by:?}");
        assert_eq!((by.errors, by.unroutable, by.wrong_sender), (0, 0, 0), "{by:?}");
    }
}

#[test]
fn what_cannot_be_joined_is_cut_right() {
    let (a, b, _neighbour, _switch) = two(best());
    for host in [&a.node.host.netns, &b.node.host.netns] {
        ok(host, "ethtool -K eth0 tso off gso off gro off tx off");
    }
    everything_flows(&a, &b);
}

#[test]
fn what_somebody_removed_comes_back_and_traffic_goes_on() {
    for attachment in attachments() {
        let (mut a, b, _neighbour, _switch) = two(attachment);
        assert!(pings(a.container(), "10.0.1.3"));
        let port = port_name(&endpoint_id(2));
        let pins = ok(&a.node.host.netns, &format!("find {}/attached", a.folder.path().display()));
        let pin = |program: &str| pins.lines().find(|line| line.contains(program)).unwrap().to_owned();
        let mut damages = vec![
            (&a.node.network.netns, format!("rm {}", pin("from_endpoint"))),
            (&a.node.host.netns, format!("rm {}", pin("from_underlay"))),
            (&a.node.host.netns, "sysctl -qw net.ipv4.conf.up-out.forwarding=0".to_owned()),
        ];
        if attachment == Attachment::Filter {
            damages.push((&a.node.network.netns, format!("tc qdisc del dev {port} clsact")));
            damages.push((&a.node.host.netns, "tc filter del dev eth0 ingress".to_owned()));
        }
        for (place, damage) in damages {
            ok(place, &damage);
            assert!(pings(a.container(), "10.0.1.3"), "after {damage}");
            let report = a.engine.as_mut().unwrap().reconcile_blocking(Some(&a.wish)).unwrap();
            assert!(!report.repaired.is_empty() && report.failed.is_empty(), "{damage}: {report:?}");
            let before = (a.counters(), b.counters());
            floods(a.container(), "10.0.1.3", 10);
            assert!(a.carried(&before.0).encapsulated >= 10, "after {damage}");
            assert!(a.carried(&before.0).received >= 10, "after {damage}");
            assert!(a.engine.as_mut().unwrap().reconcile_blocking(Some(&a.wish)).unwrap().is_unchanged());
        }
    }
}

#[test]
fn a_port_that_was_made_anew_is_found_again() {
    let (mut a, _b, _neighbour, _switch) = two(best());
    ok(&a.node.container.netns, "ip link del eth0");
    let report = a.reconcile();
    assert_eq!(report.absent.len(), 1, "{report:?}");
    clean(&a.node.network.kernel, &uplink_state(&a.node));
    clean(&a.node.container.kernel, &a.node.sandbox.plan());
    let report = a.reconcile();
    assert!(report.absent.is_empty() && report.failed.is_empty(), "{report:?}");
    let before = a.counters();
    floods(a.container(), "10.0.1.3", 10);
    let by = a.carried(&before);
    assert!(by.encapsulated >= 10 && by.received >= 10, "{by:?}");
    // Without the uplink all takes the bridge.
    ok(&a.node.host.netns, "ip link set up-out down");
    a.reconcile();
    let before = a.counters();
    floods(a.container(), "10.0.1.3", 10);
    assert_eq!(a.carried(&before).encapsulated, 0);
    ok(&a.node.host.netns, "ip link del up-out");
    assert_eq!(a.reconcile().absent.len(), 2);
    floods(a.container(), "10.0.1.3", 10);
}

#[test]
fn programs_of_another_build_are_replaced_under_traffic() {
    for attachment in attachments() {
        let (mut a, _b, _neighbour, _switch) = two(attachment);
        assert!(pings(a.container(), "10.0.1.3"));
        a.engine = None;
        // What this build pinned is now another's.
        let folder = a.folder.path();
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let programs =
            entries.filter(|path| path.to_str().unwrap().contains("programs-")).collect::<Vec<_>>();
        let former = folder.join("programs-former");
        std::fs::rename(&programs[0], &former).unwrap();
        let netns = a.node.container.netns.clone();
        let flood = std::thread::spawn(move || floods(&netns, "10.0.1.3", 100));
        a.engine = Some(FastPathEngine::open_with_blocking(&folder, attachment).unwrap());
        let before = a.counters();
        let report = a.reconcile();
        assert!(
            report.changed.iter().any(|what| what.contains("from_endpoint") && what.contains("replaced"))
        );
        assert!(report.failed.is_empty() && report.repaired.is_empty(), "{report:?}");
        flood.join().unwrap();
        assert!(a.carried(&before).encapsulated > 0 && !former.exists());
        assert!(a.reconcile().is_unchanged());
        // Maps of another layout: nothing of it is left, and all is made anew.
        a.engine = None;
        std::fs::create_dir(folder.join("maps-0")).unwrap();
        a.engine = Some(FastPathEngine::open_with_blocking(&folder, attachment).unwrap());
        assert!(a.reconcile().failed.is_empty() && !folder.join("maps-0").exists());
        floods(a.container(), "10.0.1.3", 10);
    }
}

#[test]
fn the_encrypting_engine_gets_frames_and_gives_them() {
    let (mut nodes, _neighbour, _switch) = prepared();
    let mut node = nodes.remove(0);
    node.overlay.encryption = Some(EncryptionEngine::Userspace);
    let mut a = Fast::new(node, best());
    let device = OverlayNetwork::tunnel_name(0);
    a.wish.segments.get_mut(&vni()).unwrap().way_out = WayOut::Device(device.clone());
    let report = a.reconcile();
    assert!(report.absent.is_empty() && report.failed.is_empty(), "{report:?}");
    let tap = Tap::open(&a.node.network.netns, &device).unwrap();
    let far = MacAddr::from_ipv4(v4(3)).0;
    let heard = a.container().udp_socket("10.0.1.2:7777".parse().unwrap()).unwrap();
    heard.send_to(b"over", "10.0.1.3:7777").unwrap();
    let mut buffer = [0; 2048];
    let mut frame = Vec::new();
    eventually("the frame is handed over", || {
        while let Ok(length) = tap.read(&mut buffer) {
            if buffer[10..16] == far && length > 24 {
                frame = buffer[10..length].to_vec();
            }
        }
        !frame.is_empty()
    });
    assert_eq!(a.counters().handed_over, 1);
    // As the other node would send it: addresses change places, the checksums stay the same.
    let answer =
        [&frame[6..12], &frame[..6], &frame[12..26], &frame[30..34], &frame[26..30], &frame[34..]].concat();
    // Its checksum was left to whoever sends it on; none is fine in IPv4.
    let answer = [&answer[..40], &[0, 0], &answer[42..]].concat();
    let before = a.counters();
    tap.write(&[0; 10], &[std::io::IoSlice::new(&answer)]).unwrap();
    eventually("the answer arrives", || {
        heard.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *b"over")
    });
    assert_eq!(a.carried(&before).received, 1);
    // A tunnel packet of such a network is nobody's here.
    assert_eq!(a.counters().decapsulated, 0);
}

/// Two nodes of an encrypted network; what an engine would encrypt between them is carried from device to device here.
fn by_devices(attachment: Attachment) -> (Vec<Fast>, Vec<Tap>, Place, Place) {
    let (nodes, neighbour, switch) = prepared();
    let device = OverlayNetwork::tunnel_name(0);
    let mut all = Vec::new();
    for mut node in nodes {
        node.overlay.encryption = Some(EncryptionEngine::Userspace);
        let mut fast = Fast::new(node, attachment);
        fast.wish.segments.get_mut(&vni()).unwrap().way_out = WayOut::Device(device.clone());
        let report = fast.reconcile();
        assert!(report.absent.is_empty() && report.failed.is_empty(), "{report:?}");
        all.push(fast);
    }
    let taps = all.iter().map(|fast| Tap::open(&fast.node.network.netns, &device).unwrap()).collect();
    (all, taps, neighbour, switch)
}

#[test]
fn large_frames_keep_what_is_left_to_do_to_them_through_the_encrypting_engine() {
    for attachment in attachments() {
        let (fast, taps, _neighbour, _switch) = by_devices(attachment);
        let ends = AtomicBool::new(false);
        let longest = AtomicUsize::new(0);
        let carry = |from: &Tap, to: &Tap| {
            let mut buffer = vec![0; 70_000];
            while !ends.load(Ordering::Relaxed) {
                let mut waits = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut waits, 10u16);
                while let Ok(length) = from.read(&mut buffer) {
                    longest.fetch_max(length, Ordering::Relaxed);
                    let (header, frame) = buffer[..length].split_first_chunk().unwrap();
                    to.write(header, &[std::io::IoSlice::new(frame)]).unwrap();
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| carry(&taps[0], &taps[1]));
            scope.spawn(|| carry(&taps[1], &taps[0]));
            let (from, to) = (fast[0].container(), fast[1].container());
            let done = std::panic::catch_unwind(|| {
                assert!(pings(from, "10.0.1.3"));
                let before = [fast[0].counters(), fast[1].counters()];
                transfer(from, to, "10.0.1.3:9001", 20 << 20);
                transfer(from, to, "[fd00:1::3]:9002", 20 << 20);
                transfer(to, from, "10.0.1.2:9003", 20 << 20);
                for (fast, before) in fast.iter().zip(&before) {
                    let by = fast.carried(before);
                    assert!(by.handed_over > 400 && by.received > 400, "{by:?}");
                    assert!(by.errors == 0 && by.slow_path < 40, "{by:?}");
                }
            });
            ends.store(true, Ordering::Relaxed);
            done.unwrap();
        });
        // Not cut on the way to the device, which is what it is there for.
        assert!(longest.load(Ordering::Relaxed) > 30_000);
    }
}

#[test]
fn a_hundred_ports_are_no_burden() {
    let (mut a, _b, _neighbour, _switch) = two(best());
    let place = Place::new();
    for n in 100..200u8 {
        a.node.overlay.local.push(LocalEndpoint {
            id: endpoint_id(n),
            ip: std::net::Ipv4Addr::new(10, 0, 1, n).into(),
            mac: MacAddr::from_ipv4(v4(n)),
            sandbox: place.netns.reference(),
            interface: name(&format!("c{n}")),
        });
    }
    clean(&a.node.network.kernel, &uplink_state(&a.node));
    a.wish = wish(&a.node);
    let start = std::time::Instant::now();
    let report = a.reconcile();
    let made = start.elapsed();
    assert!(report.failed.is_empty() && report.absent.is_empty(), "{report:?}");
    assert!(a.reconcile().is_unchanged());
    let again = start.elapsed() - made;
    println!("100 ports: {made:?} to attach, {again:?} an audit");
    assert!(again < std::time::Duration::from_millis(500), "{again:?}");
}

#[test]
fn stations_come_and_go_with_the_wish() {
    let (mut a, b, _neighbour, _switch) = two(best());
    assert!(pings(a.container(), "10.0.1.3"));
    let segment = a.wish.segments.get_mut(&vni()).unwrap();
    let remote = std::mem::take(&mut segment.remote);
    let report = a.reconcile();
    assert_eq!(report.changed, ["1 stations removed"]);
    let before = a.counters();
    floods(a.container(), "10.0.1.3", 10);
    assert_eq!(a.carried(&before).encapsulated, 0);
    assert!(a.carried(&before).wrong_sender >= 10, "who is not known is left to the guard");
    a.wish.segments.get_mut(&vni()).unwrap().remote = remote;
    assert_eq!(a.reconcile().changed, ["1 stations entered"]);
    let engine = a.engine.as_mut().unwrap();
    assert!(!engine.reconcile_blocking(None).unwrap().is_unchanged());
    assert!(engine.reconcile_blocking(None).unwrap().is_unchanged());
    floods(b.container(), "10.0.1.2", 10);
    assert!(!a.reconcile().is_unchanged());
    let before = a.counters();
    floods(a.container(), "10.0.1.3", 10);
    assert!(a.carried(&before).encapsulated >= 10);
}

#[test]
fn forged_tunnel_packets_are_left_to_the_guard() {
    let (a, b, _neighbour, _switch) = two(best());
    assert!(pings(a.container(), "10.0.1.3"));
    let heard = b.node.container.netns.udp_socket("10.0.1.3:7777".parse().unwrap()).unwrap();
    let frame = |source: MacAddr| {
        let (to, from) = (v4(3).octets(), v4(2).octets());
        let mut ip = vec![0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0];
        ip.extend(from.iter().chain(&to));
        let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        ip[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        ip.extend([0x11, 0x11, 0x1e, 0x61, 0, 12, 0, 0, b'o', b'v', b'e', b'r']);
        let head =
            [&[8, 0, 0, 0, 0, 0x10, 1, 0], &MacAddr::from_ipv4(v4(3)).0[..], &source.0, &[8, 0]].concat();
        [head, ip].concat()
    };
    let from = |address: &str| a.node.host.netns.udp_socket(format!("{address}:0").parse().unwrap()).unwrap();
    let target = "192.0.2.2:4789";
    // A member, with a station of its own: as if it had been a program's.
    let before = b.counters();
    from("192.0.2.1").send_to(&frame(MacAddr::from_ipv4(v4(2))), target).unwrap();
    eventually("the true one arrives", || heard.recv(&mut [0; 64]).is_ok());
    assert_eq!(b.carried(&before).decapsulated, 1);
    // A member with a station that is not its own, and a stranger.
    from("192.0.2.1").send_to(&frame(MacAddr::from_ipv4(v4(99))), target).unwrap();
    eventually("the forged station is seen", || b.carried(&before).wrong_sender == 1);
    ok(&a.node.host.netns, "ip addr add 192.0.2.66/24 dev eth0");
    from("192.0.2.66").send_to(&frame(MacAddr::from_ipv4(v4(2))), target).unwrap();
    eventually("the stranger is seen", || b.carried(&before).wrong_sender == 2);
    let stranger = || {
        let kernel = &b.node.host.kernel;
        kernel.nft_counter_blocking(&VxlanGuard::table_id(), VxlanGuard::STRANGER).unwrap().unwrap().packets
    };
    eventually("the guard drops the stranger's", || stranger() == 1);
    assert_eq!(b.carried(&before).decapsulated, 1);
}

#[test]
fn nothing_is_left_after_removal() {
    for attachment in attachments() {
        let (mut a, _b, _neighbour, _switch) = two(attachment);
        let path = a.folder.path();
        a.engine.take().unwrap().remove_blocking().unwrap();
        assert!(!path.exists());
        assert!(!std::fs::read_to_string("/proc/mounts").unwrap().contains(path.to_str().unwrap()));
        for (netns, link) in [
            (&a.node.host.netns, "eth0".to_owned()),
            (&a.node.host.netns, "up-out".to_owned()),
            (&a.node.network.netns, port_name(&endpoint_id(2)).to_string()),
        ] {
            assert_eq!(ok(netns, &format!("tc filter show dev {link} ingress")), "");
            eventually("the programs are gone", || programs_of(netns, &link) == 0);
        }
        floods(a.container(), "10.0.1.3", 10);
    }
}

/// How many programs are on an interface's ingress.
fn programs_of(netns: &weft_kernel::Netns, link: &str) -> usize {
    use aya::programs::{SchedClassifier, TcAttachType};
    let query = || SchedClassifier::query_tcx(link, TcAttachType::Ingress).map_or(0, |(_, all)| all.len());
    netns.run_in(query).unwrap()
}
