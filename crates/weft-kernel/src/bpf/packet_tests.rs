//! The programs, each given packets by the kernel's own test run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Ebpf;
use aya::maps::PerCpuArray;
use aya::programs::{TestRun, TestRunOptions};
use proptest::prelude::*;
use weft_types::{MacAddr, Vni};

use super::layout::{self, Counter, Station};
use super::probe::{REDIRECT, set_settings, set_station};
use super::programs::{ProgramName, classifier, load};
use crate::Netns;

/// `TC_ACT_UNSPEC`: the next one, at last the bridge or the host, goes on with it.
const GO_ON: u32 = u32::MAX;
/// `TC_ACT_SHOT`.
const DROP: u32 = 2;

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const THERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const PORT: u16 = 4789;
const NEAR: MacAddr = MacAddr([2, 0x42, 10, 0, 1, 2]);
const FAR: MacAddr = MacAddr([2, 0x42, 10, 0, 1, 3]);
/// Interfaces; 1 is the one that tests' packets come in by.
const NEAR_PORT: u32 = 12;
const INSIDE: u32 = 13;
const OUTSIDE: u32 = 14;
const MTU: u32 = 1500;

/// Offsets in `struct __sk_buff` (linux/bpf.h).
const SKB_LEN: usize = 192;
const SKB_MARK: usize = 8;
const SKB_GSO_SIZE: usize = 176;

fn vni() -> Vni {
    4097.try_into().unwrap()
}

/// The programs of the host or a segment, with maps of their own, in a namespace of their own.
struct Bench {
    netns: Netns,
    loaded: Ebpf,
}

struct Run {
    verdict: u32,
    packet: Vec<u8>,
    mark: u32,
}

/// A namespace with the interfaces that stations are behind.
fn namespace() -> Netns {
    let netns = Netns::anonymous().unwrap();
    for index in [5, 6, 9, NEAR_PORT, INSIDE, OUTSIDE, 15] {
        let index = index.to_string();
        let made = netns.run_in(|| {
            let add = ["link", "add", &format!("i{index}"), "index", &index, "type", "bridge"];
            std::process::Command::new("ip").args(add).status().unwrap().success()
        });
        assert!(made.unwrap());
    }
    netns
}

impl Bench {
    fn new(of: Option<Vni>, vtep: IpAddr) -> Self {
        let mut bench = Self { netns: namespace(), loaded: load(of, None).unwrap() };
        let far: IpAddr = if vtep.is_ipv4() { THERE.into() } else { THERE6.into() };
        set_settings(&mut bench.loaded, layout::settings(vtep, PORT, MTU, None)).unwrap();
        bench.station(vni(), NEAR, layout::local(NEAR_PORT, Some(OUTSIDE), false));
        bench.station(vni(), FAR, layout::tunnel(far, vtep.is_ipv4().then_some(INSIDE)));
        bench
    }

    fn host() -> Self {
        Self::new(None, HERE.into())
    }

    fn segment() -> Self {
        Self::new(Some(vni()), HERE.into())
    }

    fn station(&mut self, vni: Vni, mac: MacAddr, station: Station) {
        set_station(&mut self.loaded, &layout::key(vni, mac), &station).unwrap();
    }

    fn run(&mut self, program: ProgramName, packet: &[u8]) -> Run {
        self.run_with(program, packet, |_| {})
    }

    fn run_with(&mut self, program: ProgramName, packet: &[u8], edit: impl FnOnce(&mut [u8])) -> Run {
        let (mut context, mut context_out) = (vec![0; SKB_LEN], vec![0; SKB_LEN]);
        edit(&mut context);
        let mut out = vec![0; packet.len() + 256];
        let loaded = &mut self.loaded;
        let result = self.netns.run_in(|| {
            let options = TestRunOptions {
                data_in: Some(packet),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ctx_out: Some(&mut context_out),
                ..TestRunOptions::new()
            };
            classifier(loaded, program).unwrap().test_run(options).unwrap()
        });
        let result = result.unwrap();
        out.truncate(result.data_size_out as usize);
        let mark = u32::from_ne_bytes(context_out[SKB_MARK..SKB_MARK + 4].try_into().unwrap());
        Run { verdict: result.return_value, packet: out, mark }
    }

    fn count(&self, counter: Counter) -> u64 {
        let counters = PerCpuArray::<_, u64>::try_from(self.loaded.map("counters").unwrap()).unwrap();
        counters.get(&(counter as u32), 0).unwrap().iter().sum()
    }
}

fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

fn ethernet(to: MacAddr, from: MacAddr, kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &kind.to_be_bytes(), rest].concat()
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, tos: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, tos, 0, 0, 0, 7, 0, 0, 64, 17, 0, 0];
    header[2..4].copy_from_slice(&(20 + rest.len() as u16).to_be_bytes());
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, rest.to_vec()].concat()
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, class: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60 | class >> 4, class << 4, 0, 0, 0, 0, 17, 64];
    header[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
    [&header, &from.octets()[..], &to.octets(), rest].concat()
}

fn udp(port: u16, check: u16, rest: &[u8]) -> Vec<u8> {
    let length = 8 + rest.len() as u16;
    let words = [40000, port, length, check].map(u16::to_be_bytes);
    [&words.concat(), rest].concat()
}

fn vxlan(flags: u8, vni: u32, frame: &[u8]) -> Vec<u8> {
    [&[flags, 0, 0, 0], &(vni << 8).to_be_bytes()[..], frame].concat()
}

/// A frame of an endpoint, with so many bytes behind its IP header.
fn frame4(to: MacAddr, from: MacAddr, tos: u8, length: usize) -> Vec<u8> {
    ethernet(to, from, 0x0800, &ipv4([10, 0, 1, 3].into(), [10, 0, 1, 2].into(), tos, &vec![7; length]))
}

fn frame6(to: MacAddr, from: MacAddr, class: u8) -> Vec<u8> {
    ethernet(to, from, 0x86dd, &ipv6(THERE6, HERE6, class, &[7; 30]))
}

/// The host's interface in a test has an address of zeros.
const OWN: MacAddr = MacAddr([0; 6]);

fn tunnelled(frame: &[u8], tos: u8) -> Vec<u8> {
    let inner = vxlan(8, vni().get(), frame);
    ethernet(OWN, FAR, 0x0800, &ipv4(THERE, HERE, tos, &udp(PORT, 0, &inner)))
}

fn tunnelled6(frame: &[u8], class: u8, check: u16) -> Vec<u8> {
    let inner = vxlan(8, vni().get(), frame);
    ethernet(OWN, FAR, 0x86dd, &ipv6(THERE6, HERE6, class, &udp(PORT, check, &inner)))
}

/// With one byte of the outer IPv4 header another, and its checksum right again.
fn edited(packet: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at] = byte;
    packet[24..26].fill(0);
    let sum = checksum(&packet[14..34]);
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn a_tunnel_packet_is_unpacked() {
    let mut bench = Bench::host();
    for frame in [frame4(NEAR, FAR, 0, 40), frame6(NEAR, FAR, 0), frame4(NEAR, FAR, 2, 1000)] {
        let run = bench.run(ProgramName::Underlay, &tunnelled(&frame, 0));
        assert_eq!((run.verdict, run.mark), (REDIRECT, NEAR_PORT));
        assert_eq!(run.packet, frame);
    }
    assert_eq!(bench.count(Counter::Decapsulated), 3);
}

#[test]
fn ipv6_carries_tunnel_packets_here() {
    let mut bench = Bench::new(None, HERE6.into());
    for frame in [frame4(NEAR, FAR, 0, 40), frame6(NEAR, FAR, 0)] {
        let run = bench.run(ProgramName::Underlay, &tunnelled6(&frame, 0, 0x1234));
        assert_eq!(run.verdict, REDIRECT);
        assert_eq!(run.packet, frame);
    }
    // Without a checksum it is the kernel's to say; over IPv4 it is another node's.
    for packet in [tunnelled6(&frame4(NEAR, FAR, 0, 40), 0, 0), tunnelled(&frame4(NEAR, FAR, 0, 40), 0)] {
        assert_eq!(bench.run(ProgramName::Underlay, &packet).verdict, GO_ON);
    }
    let mut sending = Bench::new(Some(vni()), HERE6.into());
    assert_eq!(sending.run(ProgramName::Endpoint, &frame4(FAR, NEAR, 0, 40)).verdict, GO_ON);
}

#[test]
fn what_does_not_fit_goes_on_untouched() {
    let mut bench = Bench::host();
    let stranger = MacAddr([2, 0x42, 10, 0, 1, 4]);
    bench.station(vni(), stranger, layout::tunnel([192, 0, 2, 3].into(), Some(INSIDE)));
    let encrypted: Vni = 4098.try_into().unwrap();
    bench.station(encrypted, NEAR, layout::local(NEAR_PORT, None, false));
    bench.station(encrypted, FAR, layout::device(9));
    let frame = frame4(NEAR, FAR, 0, 40);
    let good = tunnelled(&frame, 0);
    let with = |flags, vni, frame: &[u8]| {
        ethernet(OWN, FAR, 0x0800, &ipv4(THERE, HERE, 0, &udp(PORT, 0, &vxlan(flags, vni, frame))))
    };
    let to = |port| {
        ethernet(OWN, FAR, 0x0800, &ipv4(THERE, HERE, 0, &udp(port, 0, &vxlan(8, vni().get(), &frame))))
    };
    let mut options = edited(&good, 14, 0x46);
    options.splice(34..34, [1, 1, 1, 1]);
    let mut padded = good.clone();
    padded.extend([0; 4]);
    let mut bad_sum = good.clone();
    bad_sum[24] ^= 1;
    let mut reserved = good.clone();
    reserved[49] = 1;
    let tagged = ethernet(NEAR, FAR, 0x8100, &[&[0, 5, 8, 0][..], &frame[14..]].concat());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("first fragment", edited(&good, 20, 0x20)),
        ("later fragment", edited(&good, 21, 0x10)),
        ("options", options),
        ("another protocol", edited(&good, 23, 6)),
        ("another address", edited(&good, 33, 9)),
        ("another port", to(4790)),
        ("another sender", edited(&good, 29, 3)),
        ("no member", edited(&good, 29, 99)),
        ("longer than it says", padded),
        ("damaged header", bad_sum),
        ("no network", with(0, vni().get(), &frame)),
        ("other flags", with(0x88, vni().get(), &frame)),
        ("reserved bits", reserved),
        ("unknown network", with(8, 4099, &frame)),
        ("encrypted network", with(8, 4098, &frame)),
        ("unknown station", tunnelled(&frame4(MacAddr([2; 6]), FAR, 0, 40), 0)),
        ("unknown source", tunnelled(&frame4(NEAR, MacAddr([2; 6]), 0, 40), 0)),
        ("source of another node", tunnelled(&frame4(NEAR, stranger, 0, 40), 0)),
        ("own station as source", tunnelled(&frame4(NEAR, NEAR, 0, 40), 0)),
        ("to another node", tunnelled(&frame4(FAR, FAR, 0, 40), 0)),
        ("multicast", tunnelled(&frame4(MacAddr([3, 0, 0, 0, 0, 1]), FAR, 0, 40), 0)),
        ("broadcast", tunnelled(&frame4(MacAddr([255; 6]), FAR, 0, 40), 0)),
        ("ARP", tunnelled(&ethernet(NEAR, FAR, 0x0806, &[0; 46]), 0)),
        ("tagged", tunnelled(&tagged, 0)),
        ("not for this interface", [&NEAR.0, &good[6..]].concat()),
        ("ECT(1) over ECT(0)", tunnelled(&frame4(NEAR, FAR, 2, 40), 1)),
    ];
    for (what, packet) in cases {
        let run = bench.run(ProgramName::Underlay, &packet);
        assert_eq!(run.verdict, GO_ON, "{what}");
        assert_eq!(run.packet, packet, "{what}");
    }
    assert_eq!(bench.count(Counter::Decapsulated), 0);
    assert_eq!(bench.count(Counter::WrongSender), 5);
    assert_eq!(bench.count(Counter::Malformed), 5);
    assert_eq!(bench.run(ProgramName::Underlay, &good).verdict, REDIRECT);
    // Every shorter one that the kernel takes for a test: what is left claims to be longer than it is.
    for length in 34..good.len() {
        let run = bench.run(ProgramName::Underlay, &good[..length]);
        assert_eq!(run.verdict, GO_ON, "{length} bytes");
    }
}

#[test]
fn congestion_is_passed_on_both_ways() {
    let mut host = Bench::host();
    let ce = |frame: &[u8]| tunnelled(frame, 3);
    // RFC 6040, section 4.2, row by row for what is not left as it is.
    for inner in [1, 2, 3] {
        for frame in [frame4(NEAR, FAR, inner, 40), frame6(NEAR, FAR, inner)] {
            let run = host.run(ProgramName::Underlay, &ce(&frame));
            assert_eq!(run.verdict, REDIRECT);
            let four = frame[12] == 8;
            assert_eq!(if four { run.packet[15] } else { run.packet[15] >> 4 } & 3, 3, "{inner}");
            assert!(!four || checksum(&run.packet[14..34]) == 0, "{inner}");
            assert_eq!(run.packet[34..], frame[34..]);
        }
    }
    for frame in [frame4(NEAR, FAR, 0, 40), frame6(NEAR, FAR, 0)] {
        assert_eq!(host.run(ProgramName::Underlay, &ce(&frame)).verdict, DROP);
    }
    assert_eq!(host.count(Counter::CongestionDropped), 2);
    for outer in [1, 2] {
        let frame = frame4(NEAR, FAR, 0, 40);
        assert_eq!(host.run(ProgramName::Underlay, &tunnelled(&frame, outer)).packet, frame);
    }
    // Section 4.1; the class of service stays inside.
    let mut segment = Bench::segment();
    for tos in [0, 1, 2, 3, 0xb8, 0xba] {
        for frame in [frame4(FAR, NEAR, tos, 40), frame6(FAR, NEAR, tos)] {
            assert_eq!(segment.run(ProgramName::Endpoint, &frame).packet[15], tos & 3);
        }
    }
}

#[test]
fn a_frame_for_another_node_is_packed() {
    let mut bench = Bench::segment();
    for frame in [frame4(FAR, NEAR, 0, 40), frame6(FAR, NEAR, 0), frame4(FAR, NEAR, 0, 1430)] {
        let run = bench.run(ProgramName::Endpoint, &frame);
        assert_eq!(run.verdict, REDIRECT);
        let packet = &run.packet;
        assert_eq!(packet[12..14], [8, 0]);
        assert_eq!((packet[14], checksum(&packet[14..34])), (0x45, 0));
        assert_eq!(usize::from(u16::from_be_bytes([packet[16], packet[17]])), packet.len() - 14);
        assert_eq!(packet[20..24], [0, 0, 64, 17], "may be fragmented, 64 hops, UDP");
        assert_eq!(packet[26..34], [HERE.octets(), THERE.octets()].concat());
        let port = u16::from_be_bytes([packet[34], packet[35]]);
        assert!((0x8000..weft_plan::SourcePorts::ENCRYPTED_FIRST).contains(&port), "{port:#x}");
        assert_eq!(packet[36..38], PORT.to_be_bytes());
        assert_eq!(usize::from(u16::from_be_bytes([packet[38], packet[39]])), packet.len() - 34);
        assert_eq!(packet[40..50], [0, 0, 8, 0, 0, 0, 0, 0x10, 1, 0]);
        assert_eq!(packet[50..], frame);
    }
    assert_eq!(bench.count(Counter::Encapsulated), 3);
    // One byte longer than the underlay takes, and none longer where the underlay is not known.
    assert_eq!(bench.run(ProgramName::Endpoint, &frame4(FAR, NEAR, 0, 1431)).verdict, GO_ON);
    set_settings(&mut bench.loaded, layout::NO_SETTINGS).unwrap();
    assert_eq!(bench.run(ProgramName::Endpoint, &frame4(FAR, NEAR, 0, 40)).verdict, GO_ON);
}

#[test]
fn an_endpoint_reaches_its_neighbours_and_the_encrypting_engine() {
    let mut bench = Bench::segment();
    let beyond = MacAddr([2, 0x42, 10, 0, 1, 9]);
    bench.station(vni(), beyond, layout::device(9));
    bench.station(4098.try_into().unwrap(), MacAddr([2; 6]), layout::local(5, Some(6), false));
    // Port 1 is the one that the frame comes in by.
    let own = MacAddr([2, 0x42, 10, 0, 1, 8]);
    bench.station(vni(), own, layout::local(1, Some(OUTSIDE), false));
    for (to, verdict) in [(NEAR, REDIRECT), (beyond, REDIRECT), (own, GO_ON), (MacAddr([2; 6]), GO_ON)] {
        let frame = frame4(to, FAR, 0, 40);
        let run = bench.run(ProgramName::Endpoint, &frame);
        assert_eq!((run.verdict, run.packet), (verdict, frame), "{to}");
    }
    assert_eq!((bench.count(Counter::Delivered), bench.count(Counter::HandedOver)), (1, 1));
    let tagged = ethernet(NEAR, FAR, 0x8100, &[&[0, 5, 8, 0][..], &[7; 60]].concat());
    let arp = ethernet(NEAR, FAR, 0x0806, &[0; 46]);
    let multicast = frame4(MacAddr([0x33, 0x33, 0, 0, 0, 1]), NEAR, 0, 40);
    for other in [&tagged, &arp, &multicast, &arp[..14].to_vec()] {
        let run = bench.run(ProgramName::Endpoint, other);
        assert_eq!((run.verdict, &run.packet), (GO_ON, other));
        let run = bench.run(ProgramName::Device, other);
        assert_eq!((run.verdict, &run.packet), (GO_ON, other));
        assert_eq!(bench.run(ProgramName::UplinkInside, other).verdict, GO_ON);
    }
    // A port that was made again has another number for a moment.
    bench.station(vni(), NEAR, layout::local(7, Some(OUTSIDE), false));
    bench.station(vni(), FAR, layout::tunnel(THERE.into(), Some(8)));
    for (program, to) in
        [(ProgramName::Endpoint, NEAR), (ProgramName::Endpoint, FAR), (ProgramName::UplinkInside, NEAR)]
    {
        let frame = frame4(to, beyond, 0, 40);
        let run = bench.run(program, &frame);
        assert_eq!((run.verdict, run.packet), (GO_ON, frame), "{program:?} {to}");
    }
}

#[test]
fn uplinks_take_what_programs_sent_and_nothing_else() {
    let mut bench = Bench::segment();
    let frame = frame4(NEAR, FAR, 0, 40);
    for program in [ProgramName::UplinkInside, ProgramName::Device] {
        let run = bench.run(program, &frame);
        assert_eq!((run.verdict, &run.packet), (REDIRECT, &frame));
    }
    let marked = |context: &mut [u8]| context[SKB_MARK..SKB_MARK + 4].copy_from_slice(&7u32.to_ne_bytes());
    let run = bench.run_with(ProgramName::UplinkInside, &frame, marked);
    assert_eq!((run.verdict, run.mark), (REDIRECT, 0));
    // A device's frame for a station on yet another node is the bridge's; it would never have come by an uplink.
    let onward = frame4(FAR, NEAR, 0, 40);
    assert_eq!(bench.run(ProgramName::Device, &onward).verdict, GO_ON);
    assert_eq!(bench.run(ProgramName::UplinkInside, &onward).verdict, GO_ON);
    let mut host = Bench::host();
    for stray in [&frame, &tunnelled(&frame, 0), &frame6(NEAR, FAR, 0), &tunnelled(&frame, 0)[..41].to_vec()]
    {
        assert_eq!(host.run(ProgramName::UplinkOutside, stray).verdict, DROP);
    }
    assert_eq!((host.count(Counter::Stray), host.count(Counter::Unroutable)), (4, 0));
    // It is a program's, but this namespace has no routes.
    let packed = bench.run(ProgramName::Endpoint, &onward).packet;
    assert_eq!(host.run(ProgramName::UplinkOutside, &packed).verdict, DROP);
    assert_eq!(host.count(Counter::Unroutable), 1);
}

#[test]
fn joined_packets_are_not_unpacked_for_what_sends_them_on() {
    let mut bench = Bench::host();
    let entry = MacAddr([2, 0x42, 192, 0, 2, 1]);
    bench.station(vni(), entry, layout::local(15, Some(OUTSIDE), true));
    let packet = tunnelled(&frame4(entry, FAR, 0, 1000), 0);
    assert_eq!(bench.run(ProgramName::Underlay, &packet).verdict, REDIRECT);
    let joined =
        |context: &mut [u8]| context[SKB_GSO_SIZE..SKB_GSO_SIZE + 4].copy_from_slice(&500u32.to_ne_bytes());
    assert_eq!(bench.run_with(ProgramName::Underlay, &packet, joined).verdict, GO_ON);
}

/// What a program may redirect must be to a station of its own network.
fn allowed(program: ProgramName, packet: &[u8]) -> bool {
    let inner = if program == ProgramName::Underlay { &packet[50..] } else { packet };
    let known = [NEAR.0, FAR.0].iter().any(|mac| inner[..6] == mac[..]);
    known && (program != ProgramName::Underlay || (packet[46..49] == [0, 0x10, 1] && inner[6..12] == FAR.0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_bytes_go_on_or_are_dropped(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 14..200), 16),
    ) {
        let (mut host, mut segment) = (Bench::host(), Bench::segment());
        for packet in &packets {
            for program in ProgramName::HOST {
                prop_assert_ne!(host.run(program, packet).verdict, REDIRECT);
            }
            for program in ProgramName::SEGMENT {
                prop_assert_ne!(segment.run(program, packet).verdict, REDIRECT);
            }
        }
    }

    #[test]
    fn a_damaged_packet_never_reaches_another_network(
        damages in prop::collection::vec((0usize..100, any::<u8>(), any::<bool>()), 1..64),
        six in any::<bool>(),
    ) {
        let (mut host, mut segment) = (Bench::host(), Bench::segment());
        let frame = if six { frame6(NEAR, FAR, 0) } else { frame4(NEAR, FAR, 0, 40) };
        for (at, byte, mend) in damages {
            let mut packet = tunnelled(&frame, 0);
            packet[at] = byte;
            if mend {
                packet = edited(&packet, 26, 192);
            }
            let run = host.run(ProgramName::Underlay, &packet);
            prop_assert!([GO_ON, DROP, REDIRECT].contains(&run.verdict));
            prop_assert!(run.verdict != REDIRECT || allowed(ProgramName::Underlay, &packet));
            prop_assert!(run.verdict == REDIRECT || run.packet == packet);
            let mut damaged = frame.clone();
            damaged[at % frame.len()] = byte;
            for program in ProgramName::SEGMENT {
                let run = segment.run(program, &damaged);
                prop_assert!(run.verdict != REDIRECT || allowed(program, &damaged));
            }
        }
    }

    #[test]
    fn what_one_node_packs_another_unpacks(
        payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..1400), any::<u8>()), 8),
    ) {
        // The other node, by its own maps: here is there.
        let (mut sender, mut receiver) = (Bench::segment(), Bench::host());
        set_settings(&mut receiver.loaded, layout::settings(THERE.into(), PORT, MTU, None)).unwrap();
        receiver.station(vni(), FAR, layout::local(NEAR_PORT, Some(OUTSIDE), false));
        receiver.station(vni(), NEAR, layout::tunnel(HERE.into(), Some(INSIDE)));
        for (payload, tos) in payloads {
            let packet = ipv4([10, 0, 1, 2].into(), [10, 0, 1, 3].into(), tos, &payload);
            let frame = ethernet(FAR, NEAR, 0x0800, &packet);
            let mut sent = sender.run(ProgramName::Endpoint, &frame).packet;
            sent[..6].fill(0);
            let run = receiver.run(ProgramName::Underlay, &sent);
            prop_assert_eq!(run.verdict, REDIRECT);
            prop_assert_eq!(run.packet, frame);
        }
    }
}
