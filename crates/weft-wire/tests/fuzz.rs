//! Arbitrary and damaged bytes: no decoder panics, none unfolds past its limit, and what we write we read back.
//!
//! Cases per property: `WEFT_PROPTEST_CASES` (default 256).

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use weft_types::{EndpointAddress, GossipName, MacAddr, PortProtocol, Vni};
use weft_wire::WireError;
use weft_wire::memberlist::{
    Ack, Alive, DatagramLayers, Dead, GossipKey, IndirectPing, Keyring, MAX_DATAGRAM_CONTENT, Message, Nack,
    NodeStateKind, Ping, PushNodeState, PushPull, StreamDecoder, StreamMessage, Suspect, Versions, compound,
    decode_datagram, decode_stream, encode_datagram, encode_stream,
};
use weft_wire::networkdb::{
    BulkSyncMessage, EndpointRecord, GossipMessage, IngressPort, NetworkEntry, NetworkEvent, NetworkPushPull,
    NodeEvent, PeerRecord, TableEvent,
};
use weft_wire::vxlan::{decode_vxlan, encode_vxlan_header};

fn cases() -> ProptestConfig {
    let cases = std::env::var("WEFT_PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(256);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn keyring() -> Keyring {
    Keyring::new([1, 2, 3].map(|time| GossipKey { lamport_time: time, key: vec![time as u8; 16] })).unwrap()
}

fn name() -> impl Strategy<Value = GossipName> {
    "[a-z0-9]{1,40}".prop_map(|text| text.parse().unwrap())
}

fn ip() -> impl Strategy<Value = IpAddr> {
    // An IPv4-mapped IPv6 address is the IPv4 address by design.
    any::<IpAddr>().prop_map(|address| address.to_canonical())
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    (ip(), 1..=u16::MAX).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn versions() -> impl Strategy<Value = Versions> {
    any::<[u8; 6]>().prop_map(Versions::from)
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

fn ping() -> impl Strategy<Value = Ping> {
    (any::<u32>(), proptest::option::of(name()), proptest::option::of(socket()), proptest::option::of(name()))
        .prop_map(|(sequence, node, source, source_node)| Ping { sequence, node, source, source_node })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        ping().prop_map(Message::Ping),
        (ping(), socket(), any::<bool>()).prop_map(|(ping, target, nack)| Message::IndirectPing(
            IndirectPing {
                sequence: ping.sequence,
                target,
                node: ping.node,
                nack,
                source: ping.source,
                source_node: ping.source_node,
            }
        )),
        (any::<u32>(), blob()).prop_map(|(sequence, payload)| Message::Ack(Ack { sequence, payload })),
        any::<u32>().prop_map(|sequence| Message::Nack(Nack { sequence })),
        (any::<u32>(), name(), name()).prop_map(|(incarnation, node, from)| Message::Suspect(Suspect {
            incarnation,
            node,
            from
        })),
        (any::<u32>(), name(), name()).prop_map(|(incarnation, node, from)| Message::Dead(Dead {
            incarnation,
            node,
            from
        })),
        (any::<u32>(), name(), socket(), blob(), versions()).prop_map(
            |(incarnation, node, address, meta, versions)| Message::Alive(Alive {
                incarnation,
                node,
                address,
                meta,
                versions
            })
        ),
        blob().prop_map(Message::User),
    ]
}

fn node_state() -> impl Strategy<Value = PushNodeState> {
    let state = prop_oneof![
        Just(NodeStateKind::Alive),
        Just(NodeStateKind::Suspect),
        Just(NodeStateKind::Dead),
        Just(NodeStateKind::Left)
    ];
    (name(), socket(), blob(), any::<u32>(), state, versions()).prop_map(
        |(name, address, meta, incarnation, state, versions)| PushNodeState {
            name,
            address,
            meta,
            incarnation,
            state,
            versions,
        },
    )
}

fn stream_message() -> impl Strategy<Value = StreamMessage> {
    prop_oneof![
        (any::<bool>(), vec(node_state(), 0..5), blob()).prop_map(|(join, nodes, user_state)| {
            StreamMessage::PushPull(PushPull { join, nodes, user_state })
        }),
        blob().prop_map(StreamMessage::User),
        ping().prop_map(StreamMessage::Ping),
        (any::<u32>(), blob()).prop_map(|(sequence, payload)| StreamMessage::Ack(Ack { sequence, payload })),
        "\\PC{0,80}".prop_map(StreamMessage::Error),
    ]
}

fn gossip_message() -> impl Strategy<Value = GossipMessage> {
    let text = || "[a-z0-9]{0,30}";
    let leaf = prop_oneof![
        (0..3, any::<u64>(), text()).prop_map(|(r#type, l_time, node_name)| GossipMessage::Node(NodeEvent {
            r#type,
            l_time,
            node_name
        })),
        (0..3, any::<u64>(), text(), text()).prop_map(|(r#type, l_time, node_name, network_id)| {
            GossipMessage::Network(NetworkEvent { r#type, l_time, node_name, network_id })
        }),
        (0..4, any::<u64>(), text(), text(), text(), text(), blob(), any::<i32>()).prop_map(
            |(r#type, l_time, node_name, network_id, table_name, key, value, residual_reap_time)| {
                GossipMessage::Table(TableEvent {
                    r#type,
                    l_time,
                    node_name,
                    network_id,
                    table_name,
                    key,
                    value,
                    residual_reap_time,
                })
            }
        ),
        (any::<u64>(), vec((text(), any::<u64>(), text(), any::<bool>()), 0..4), text()).prop_map(
            |(l_time, networks, node_name)| {
                let networks = networks.into_iter().map(|(network_id, l_time, node_name, leaving)| {
                    NetworkEntry { network_id, l_time, node_name, leaving }
                });
                GossipMessage::PushPull(NetworkPushPull { l_time, networks: networks.collect(), node_name })
            }
        ),
        (any::<u64>(), any::<bool>(), text(), vec(text(), 0..3), blob()).prop_map(
            |(l_time, unsolicited, node_name, networks, payload)| {
                GossipMessage::BulkSync(BulkSyncMessage { l_time, unsolicited, node_name, networks, payload })
            }
        ),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| vec(inner, 0..4).prop_map(|parts| GossipMessage::compound(&parts)))
}

fn endpoint_record() -> impl Strategy<Value = EndpointRecord> {
    let protocol = prop_oneof![Just(PortProtocol::Tcp), Just(PortProtocol::Udp), Just(PortProtocol::Sctp)];
    let port = ("[a-z]{0,5}", protocol, any::<u16>(), any::<u16>()).prop_map(
        |(name, protocol, target_port, published_port)| IngressPort {
            name,
            protocol,
            target_port,
            published_port,
        },
    );
    let names = || vec("[a-z]{1,10}", 0..4);
    (
        "[a-z]{1,20}",
        "[a-z]{0,20}",
        proptest::option::of(any::<IpAddr>()),
        any::<IpAddr>(),
        vec(port, 0..3),
        names(),
        names(),
        any::<bool>(),
    )
        .prop_map(
            |(
                name,
                service,
                virtual_ip,
                endpoint_ip,
                ingress_ports,
                aliases,
                task_aliases,
                service_disabled,
            )| {
                EndpointRecord {
                    name,
                    service_name: service.clone(),
                    service_id: service,
                    virtual_ip,
                    endpoint_ip,
                    ingress_ports,
                    aliases,
                    task_aliases,
                    service_disabled,
                }
            },
        )
}

/// Seals arbitrary content so that the fuzz reaches behind the encryption.
fn sealed_datagram(content: &[u8]) -> Vec<u8> {
    encode_datagram(&[content], DatagramLayers::default(), &keyring(), [9; 12]).unwrap()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn datagrams_come_back(
        messages in vec(message(), 1..20), checksum in any::<bool>(), compress in any::<bool>(), nonce in any::<[u8; 12]>()
    ) {
        let encoded: Vec<Vec<u8>> = messages.iter().map(Message::encode).collect();
        let wire = encode_datagram(&encoded, DatagramLayers { checksum, compress }, &keyring(), nonce).unwrap();
        let read = decode_datagram(&wire, &keyring()).unwrap();
        prop_assert_eq!(read.messages, messages);
        prop_assert_eq!(read.refused, []);
    }

    #[test]
    fn streams_come_back_in_any_pieces(message in stream_message(), nonce in any::<[u8; 12]>(), piece in 1_usize..64) {
        let wire = encode_stream(&message, &keyring(), nonce).unwrap();
        prop_assert_eq!(&decode_stream(&wire, &keyring()).unwrap(), &message);
        let mut decoder = StreamDecoder::default();
        let mut read = None;
        for piece in wire.chunks(piece) {
            prop_assert!(read.is_none());
            read = decoder.push(piece, &keyring()).unwrap();
        }
        prop_assert_eq!(read, Some(message));
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn networkdb_messages_come_back(message in gossip_message()) {
        prop_assert_eq!(GossipMessage::decode(&message.encode()).unwrap(), message);
    }

    #[test]
    fn records_come_back(
        record in endpoint_record(), ip in any::<IpAddr>(), len in 0..=32_u8, mac in any::<[u8; 6]>(), vtep in any::<IpAddr>()
    ) {
        prop_assert_eq!(EndpointRecord::decode(&record.encode()).unwrap(), record);
        let subnet = ipnet::IpNet::new(ip, len).unwrap();
        let peer = PeerRecord { address: EndpointAddress::new(ip, subnet), mac: MacAddr(mac), vtep };
        prop_assert_eq!(PeerRecord::decode(&peer.encode()).unwrap(), peer);
    }

    #[test]
    fn vxlan_headers_come_back(vni in 0..1_u32 << 24, frame in blob()) {
        let vni = Vni::try_from(vni).unwrap();
        let wire = [&encode_vxlan_header(vni)[..], &frame].concat();
        prop_assert_eq!(decode_vxlan(&wire), Ok((vni, frame.as_slice())));
    }

    /// No panic, and bytes that nobody sealed are always refused.
    #[test]
    fn arbitrary_bytes_are_refused(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(decode_datagram(&bytes, &keyring()).is_err());
        prop_assert!(decode_stream(&bytes, &keyring()).is_err());
        let _ = Message::decode(&bytes);
        let _ = GossipMessage::decode_all(&bytes);
        let _ = PeerRecord::decode(&bytes);
        let _ = EndpointRecord::decode(&bytes);
        let _ = decode_vxlan(&bytes);
    }

    /// Behind the seal: any type byte, any body.
    #[test]
    fn arbitrary_content_does_not_panic(kind in 0..16_u8, body in vec(any::<u8>(), 0..600)) {
        let content = [&[kind][..], &body].concat();
        let _ = decode_datagram(&sealed_datagram(&content), &keyring());
        let _ = Message::decode(&content);
    }

    /// One flipped bit anywhere: the seal notices.
    #[test]
    fn damage_is_noticed(message in message(), position in any::<prop::sample::Index>(), bit in 0..8) {
        let mut wire = sealed_datagram(&message.encode());
        let position = position.index(wire.len());
        wire[position] ^= 1_u8 << bit;
        prop_assert!(decode_datagram(&wire, &keyring()).is_err());
    }

    /// Damage under the seal (a broken peer that has the keys): no panic.
    #[test]
    fn damaged_content_does_not_panic(
        messages in vec(message(), 1..6), position in any::<prop::sample::Index>(), value in any::<u8>()
    ) {
        let encoded: Vec<Vec<u8>> = messages.iter().map(Message::encode).collect();
        let mut content = compound(&encoded).unwrap();
        let position = position.index(content.len());
        content[position] = value;
        let _ = decode_datagram(&sealed_datagram(&content), &keyring());
    }
}

#[test]
fn a_decompression_bomb_is_refused_at_its_limit() {
    let zeros = Message::User(vec![0; 4 * MAX_DATAGRAM_CONTENT]).encode();
    let layers = DatagramLayers { compress: true, checksum: false };
    let wire = encode_datagram(&[zeros], layers, &keyring(), [1; 12]).unwrap();
    assert!(wire.len() < MAX_DATAGRAM_CONTENT, "the bomb must be small: {}", wire.len());
    let read = decode_datagram(&wire, &keyring()).unwrap();
    assert_eq!(read.messages, []);
    assert!(matches!(read.refused[..], [WireError::TooLarge { limit: MAX_DATAGRAM_CONTENT, .. }]));
}

/// Many small bombs in one compound share one budget.
#[test]
fn the_limit_counts_all_parts_together() {
    let compressed = bomb_part(MAX_DATAGRAM_CONTENT / 2);
    let wire = encode_datagram(&vec![compressed; 8], DatagramLayers::default(), &keyring(), [1; 12]).unwrap();
    let read = decode_datagram(&wire, &keyring()).unwrap();
    assert!(read.messages.len() <= 2 && read.refused.len() >= 6, "{} read", read.messages.len());
}

/// A compress layer around a user message of `len` zeros, built by hand.
fn bomb_part(len: usize) -> Vec<u8> {
    let message = Message::User(vec![0; len - 1]).encode();
    let packed = weezl::encode::Encoder::new(weezl::BitOrder::Lsb, 8).encode(&message).unwrap();
    let mut out = b"\x09\x82\xa4Algo\x00\xa3Buf\xda".to_vec();
    out.extend((packed.len() as u16).to_be_bytes());
    out.extend(packed);
    out
}

/// Nested compounds deeper than any sender's are refused, not followed.
#[test]
fn nesting_is_bounded() {
    let mut content = Message::Nack(Nack { sequence: 1 }).encode();
    for _ in 0..50 {
        let mut outer = vec![7, 1];
        outer.extend((content.len() as u16).to_be_bytes());
        outer.extend(&content);
        content = outer;
    }
    let read = decode_datagram(&sealed_datagram(&content), &keyring()).unwrap();
    assert_eq!((read.messages, read.refused), (vec![], vec![WireError::TooDeep("datagram")]));
}

#[test]
fn plaintext_foreign_keys_and_oversized_streams_are_refused() {
    let plain = Message::Nack(Nack { sequence: 1 }).encode();
    assert_eq!(decode_datagram(&plain, &keyring()), Err(WireError::NotEncrypted(11)));
    let foreign =
        Keyring::new([7, 8].map(|time| GossipKey { lamport_time: time, key: vec![8; 16] })).unwrap();
    let wire = encode_datagram(&[&plain], DatagramLayers::default(), &foreign, [0; 12]).unwrap();
    assert_eq!(decode_datagram(&wire, &keyring()), Err(WireError::NoKeyDecrypts));
    // A claim of 4 GiB is refused before anything is allocated for it.
    let claim = [10, 0xff, 0xff, 0xff, 0xff, 1];
    let refused = StreamDecoder::default().push(&claim, &keyring());
    assert!(matches!(refused, Err(WireError::TooLarge { .. })));
}

#[test]
fn every_installed_key_decrypts() {
    let message = Message::Nack(Nack { sequence: 1 }).encode();
    for time in [1, 2, 3_u64] {
        // A ring in which this key is the second oldest, and so encrypts.
        let key = |time: u64, byte: u64| GossipKey { lamport_time: time, key: vec![byte as u8; 16] };
        let sender = Keyring::new([key(10, 99), key(20, time)]).unwrap();
        let wire = encode_datagram(&[&message], DatagramLayers::default(), &sender, [3; 12]).unwrap();
        assert_eq!(decode_datagram(&wire, &keyring()).unwrap().messages.len(), 1, "key {time}");
    }
}

#[test]
fn a_compound_counts_in_one_byte() {
    let message = Message::Nack(Nack { sequence: 1 }).encode();
    assert!(compound(&vec![&message; 255]).is_ok());
    assert_eq!(compound(&vec![&message; 256]), Err(WireError::TooManyMessages(256)));
}
