//! Datagrams, streams and records captured from dockerd nodes, decoded layer by layer to what their capture says.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use serde_json::Value;
use weft_wire::memberlist::{
    Datagram, DatagramLayers, GOSSIP_SUBSYSTEM, GossipKey, Keyring, Message, NodeStateKind, Nonce,
    StreamMessage, Versions, decode_datagram, decode_stream, encode_datagram, encode_stream,
};
use weft_wire::networkdb::{
    ENDPOINT_TABLE, EndpointRecord, GossipMessage, OVERLAY_PEER_TABLE, PeerRecord, table_event,
};

fn udp() -> Value {
    serde_json::from_str(include_str!("vectors/03-gossip-udp.json")).unwrap()
}

fn tcp() -> Vec<Value> {
    serde_json::from_str(include_str!("vectors/04-gossip-tcp.json")).unwrap()
}

fn records() -> Vec<Value> {
    serde_json::from_str(include_str!("vectors/05-networkdb-records.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn keyring() -> Keyring {
    let keys = udp()["keys"].as_array().unwrap().clone();
    let gossip = keys.iter().filter(|key| key["sub"] == GOSSIP_SUBSYSTEM);
    Keyring::new(
        gossip.map(|key| GossipKey { lamport_time: key["lt"].as_u64().unwrap(), key: bytes(&key["key"]) }),
    )
    .unwrap()
}

fn nonce(bytes: &[u8]) -> Nonce {
    bytes[1..13].try_into().unwrap()
}

/// The lines of a capture's decoding, without indentation.
fn decoded(vector: &Value) -> Vec<String> {
    vector["decoded"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap().trim().to_owned())
        .collect()
}

fn kind_word(message: &Message) -> &'static str {
    match message {
        Message::Ping(_) => "ping",
        Message::IndirectPing(_) => "indirectPing",
        Message::Ack(_) => "ackResp",
        Message::Nack(_) => "nackResp",
        Message::Suspect(_) => "suspect",
        Message::Alive(_) => "alive",
        Message::Dead(_) => "dead",
        Message::User(_) => "user",
    }
}

/// What a capture writes for nil and for empty bytes is the same to us; we write nil.
fn empty_as_nil(body: &str) -> String {
    body.replace(&hex::encode(b"\xa4Meta\xa0"), &hex::encode(b"\xa4Meta\xc0"))
}

#[test]
fn the_primary_key_is_the_one_that_dockerd_used() {
    let vectors = udp();
    let index = vectors["primary_key_index"].as_u64().unwrap() as usize;
    let primary = vectors["keys"][index]["lt"].as_u64().unwrap();
    assert_eq!(keyring().primary().lamport_time, primary);
}

#[test]
fn every_datagram_decodes_to_the_messages_of_its_capture() {
    let keyring = keyring();
    let packets = udp()["packets"].as_array().unwrap().clone();
    assert!(packets.len() >= 19);
    for packet in &packets {
        let Datagram { messages, refused } = decode_datagram(&bytes(&packet["datagram"]), &keyring).unwrap();
        assert_eq!(refused, [], "{}", packet["kind"]);
        let lines = decoded(packet);
        let expected: Vec<&String> =
            lines.iter().filter(|line| *line == "user" || line.contains(" raw=")).collect();
        assert_eq!(messages.len(), expected.len(), "{}", packet["kind"]);
        for (message, line) in messages.iter().zip(expected) {
            assert_eq!(kind_word(message), line.split(' ').next().unwrap());
            if let Some((_, raw)) = line.split_once(" raw=") {
                assert_eq!(hex::encode(&message.encode()[1..]), empty_as_nil(raw), "{line}");
            }
        }
    }
}

#[test]
fn user_messages_decode_to_the_events_of_their_capture() {
    let keyring = keyring();
    for packet in udp()["packets"].as_array().unwrap() {
        let datagram = decode_datagram(&bytes(&packet["datagram"]), &keyring).unwrap();
        let lines = decoded(packet);
        let expected: Vec<&String> = lines.iter().filter(|line| line.contains("_EVENT type:")).collect();
        let mut found = Vec::new();
        for message in &datagram.messages {
            if let Message::User(content) = message {
                let unfolded = GossipMessage::decode_all(content);
                assert!(unfolded.refused.is_empty());
                found.extend(unfolded.messages.iter().map(describe));
            }
        }
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(expected.starts_with(found.as_str()), "{found} is not {expected}");
        }
    }
}

/// An event the way the captures print it.
fn describe(message: &GossipMessage) -> String {
    match message {
        GossipMessage::Network(event) => format!(
            "NETWORK_EVENT type: {} l_time: {} node_name: \"{}\" network_id: \"{}\"",
            event.r#type().as_str_name(),
            event.l_time,
            event.node_name,
            event.network_id
        ),
        GossipMessage::Node(event) => format!(
            "NODE_EVENT type: {} l_time: {} node_name: \"{}\"",
            event.r#type().as_str_name(),
            event.l_time,
            event.node_name
        ),
        GossipMessage::Table(event) => format!(
            "TABLE_EVENT type: {} l_time: {} node_name: \"{}\" network_id: \"{}\" table_name: \"{}\" key: \"{}\"",
            event.r#type().as_str_name(),
            event.l_time,
            event.node_name,
            event.network_id,
            event.table_name,
            event.key
        ),
        other => panic!("no event: {other:?}"),
    }
}

/// What dockerd sent, sent by us: the same key, nonce and plaintext give the same datagram.
#[test]
fn datagrams_without_compression_are_written_byte_for_byte() {
    let keyring = keyring();
    let mut compared = 0;
    for packet in udp()["packets"].as_array().unwrap() {
        let wire = bytes(&packet["datagram"]);
        let plain = bytes(&packet["plaintext"]);
        let lines = decoded(packet);
        // Byte equality needs that dockerd wrote nil, not empty, as we do, and did not compress.
        let differs = lines.iter().any(|line| line.contains("compress") || line.contains("'Meta': b''"));
        if differs {
            continue;
        }
        let messages = decode_datagram(&wire, &keyring).unwrap().messages;
        let encoded: Vec<Vec<u8>> = messages.iter().map(Message::encode).collect();
        let layers = DatagramLayers { checksum: plain[0] == 12, compress: false };
        let ours = encode_datagram(&encoded, layers, &keyring, nonce(&wire)).unwrap();
        assert_eq!(hex::encode(ours), hex::encode(wire), "{}", packet["kind"]);
        compared += 1;
    }
    assert!(compared >= 10, "only {compared} datagrams were comparable");
}

#[test]
fn every_stream_decodes_and_comes_back() {
    let keyring = keyring();
    for vector in tcp() {
        let wire = bytes(&vector["stream_bytes"]);
        let message = decode_stream(&wire, &keyring).unwrap();
        let lines = decoded(&vector);
        match &message {
            StreamMessage::PushPull(exchange) => {
                let header = lines.iter().find(|line| line.starts_with("hdr")).unwrap();
                let join = if exchange.join { "True" } else { "False" };
                let expected = format!(
                    "hdr {{b'Join': {join}, b'Nodes': {}, b'UserStateLen': {}}}",
                    exchange.nodes.len(),
                    exchange.user_state.len()
                );
                assert_eq!(*header, expected);
                for node in &exchange.nodes {
                    assert_eq!((node.state, node.versions), (NodeStateKind::Alive, Versions::DOCKER));
                    assert!(lines.iter().any(|line| line.contains(node.name.as_str())));
                    assert_eq!(node.address.port(), 7946);
                }
                let GossipMessage::PushPull(state) = GossipMessage::decode(&exchange.user_state).unwrap()
                else {
                    panic!("user state is no push/pull")
                };
                assert!(
                    lines.iter().any(|line| line.starts_with(&format!("PUSH_PULL l_time: {}", state.l_time)))
                );
            }
            StreamMessage::User(content) => {
                let GossipMessage::BulkSync(sync) = GossipMessage::decode(content).unwrap() else { panic!() };
                let flag = if sync.unsolicited { "True" } else { "False" };
                let expected =
                    format!("BULK_SYNC l_time={} unsolicited={flag} node={}", sync.l_time, sync.node_name);
                assert!(lines.iter().any(|line| line.starts_with(&expected)), "{expected}");
                let events = GossipMessage::decode_all(&sync.payload);
                assert!(events.refused.is_empty());
                let expected = lines.iter().filter(|line| line.starts_with("TABLE_EVENT")).count();
                assert_eq!(events.messages.len(), expected);
            }
            other => panic!("unexpected {other:?}"),
        }
        let ours = encode_stream(&message, &keyring, [7; 12]).unwrap();
        assert_eq!(decode_stream(&ours, &keyring).unwrap(), message);
    }
}

/// Our compression is Go's: where both compress, the streams are the same to the byte.
#[test]
fn compressed_streams_are_written_byte_for_byte() {
    let keyring = keyring();
    let mut compared = 0;
    for vector in tcp() {
        let wire = bytes(&vector["stream_bytes"]);
        let packed_is_smaller = bytes(&vector["plaintext"]).len() < bytes(&vector["decompressed"]).len();
        let ours =
            encode_stream(&decode_stream(&wire, &keyring).unwrap(), &keyring, nonce(&wire[5..])).unwrap();
        // dockerd compresses always, we where it helps; and it writes some empty fields as empty, we as nil.
        if packed_is_smaller
            && !hex::encode(bytes(&vector["decompressed"])).contains(&hex::encode(b"Meta\xa0"))
        {
            assert_eq!(hex::encode(ours), hex::encode(wire), "{}", vector["kind"]);
            compared += 1;
        }
    }
    assert!(compared >= 3, "only {compared} streams were comparable");
}

#[test]
fn records_decode_and_come_back_byte_for_byte() {
    let (mut peers, mut endpoints) = (0, 0);
    for vector in records() {
        let wire = bytes(&vector["gossip_message_hex"]);
        let message = GossipMessage::decode(&wire).unwrap();
        assert_eq!(hex::encode(message.encode()), hex::encode(&wire));
        let GossipMessage::Table(event) = message else { panic!() };
        assert_eq!(event.r#type().as_str_name(), vector["type"]);
        assert_eq!(event.value, bytes(&vector["value_hex"]));
        match event.table_name.as_str() {
            OVERLAY_PEER_TABLE => {
                let record = PeerRecord::decode(&event.value).unwrap();
                assert_eq!(record.encode(), event.value);
                peers += 1;
            }
            ENDPOINT_TABLE => {
                let record = EndpointRecord::decode(&event.value).unwrap();
                assert_eq!(record.encode(), event.value);
                endpoints += 1;
            }
            other => panic!("unknown table {other}"),
        }
    }
    assert!(peers > 0 && endpoints > 0);
}

#[test]
fn values_of_the_captured_records() {
    let vectors = records();
    let peer = PeerRecord::decode(&bytes(&vectors[1]["value_hex"])).unwrap();
    assert_eq!(
        (peer.address.to_string(), peer.mac.to_string(), peer.vtep.to_string()),
        ("10.0.0.2/24".into(), "02:42:0a:00:00:02".into(), "10.96.0.1".into())
    );
    let ingress = EndpointRecord::decode(&bytes(&vectors[0]["value_hex"])).unwrap();
    assert_eq!((ingress.name.as_str(), ingress.virtual_ip), ("ingress-endpoint", None));
    let deleted = GossipMessage::decode(&bytes(&vectors[2]["gossip_message_hex"])).unwrap();
    let GossipMessage::Table(event) = deleted else { panic!() };
    assert_eq!((event.r#type(), event.residual_reap_time), (table_event::Type::Delete, 1800));
    let task = EndpointRecord::decode(&event.value).unwrap();
    assert!(task.service_disabled);
    assert_eq!(task.ingress_ports[0].published_port, 8080);
    assert_eq!(task.task_aliases, ["e5993c572464"]);
}
