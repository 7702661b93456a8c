//! Peers of another version, and mad ones: fields that we do not know are passed over, as SwarmKit's own generated code
//! does, and no damage makes a reader panic or allocate what a message only claims to hold.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::net::IpAddr;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use weft_types::{EndpointAddress, MacAddr};
use weft_wire::networkdb::{EndpointRecord, GossipMessage, NodeEvent, PeerRecord};
use weft_wire::swarmkit::{
    AssignmentsMessage, IssueNodeCertificateRequest, NodeCertificateStatusResponse, SessionMessage,
    SessionRequest, UpdateTaskStatusRequest,
};

/// Far above every number that SwarmKit uses.
const NUMBER: u32 = 4001;

/// One field of each form that a newer version could add.
fn unknown_fields() -> Vec<Vec<u8>> {
    let field = |wire: WireType, body: &[u8]| {
        let mut bytes = Vec::new();
        encode_key(NUMBER, wire, &mut bytes);
        bytes.extend_from_slice(body);
        bytes
    };
    let mut group = field(WireType::StartGroup, &[]);
    group.extend(field(WireType::Varint, &[1]));
    group.extend(field(WireType::EndGroup, &[]));
    vec![
        field(WireType::Varint, &[0xff, 0xff, 0x03]),
        field(WireType::SixtyFourBit, &[7; 8]),
        field(WireType::LengthDelimited, b"\x05newer"),
        field(WireType::ThirtyTwoBit, &[9; 4]),
        group,
    ]
}

/// Where a message's own fields begin, and its end.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut found = vec![0];
    let mut rest = bytes;
    while !rest.is_empty() {
        let key = prost::encoding::decode_varint(&mut rest).unwrap();
        let skipped = match key & 7 {
            0 => prost::encoding::decode_varint(&mut rest).map(|_| 0).unwrap(),
            1 => 8,
            2 => prost::encoding::decode_varint(&mut rest).unwrap() as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        rest = &rest[skipped..];
        found.push(bytes.len() - rest.len());
    }
    found
}

/// The message with each unknown field at each place.
fn newer(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    boundaries(bytes).into_iter().flat_map(move |at| {
        unknown_fields().into_iter().map(move |field| [&bytes[..at], &field, &bytes[at..]].concat())
    })
}

fn passes_over<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let known = M::decode(bytes).unwrap();
    for newer in newer(bytes) {
        assert_eq!(M::decode(newer.as_slice()).unwrap(), known);
    }
}

/// Every cut, and every byte with its highest and lowest bit turned.
fn survives<M: Message + Default>(bytes: &[u8]) {
    for len in 0..bytes.len() {
        let _ = M::decode(&bytes[..len]);
        for bit in [0x80, 0x01] {
            let mut damaged = bytes.to_vec();
            damaged[len] ^= bit;
            let _ = M::decode(damaged.as_slice());
        }
    }
}

/// What dockerd nodes sent, with the type of each message.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let list: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("vectors/02-dispatcher.json")).unwrap();
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap().to_owned();
    list.iter().map(|entry| (text(entry, "message"), hex::decode(text(entry, "hex")).unwrap())).collect()
}

macro_rules! for_each_vector {
    ($check:ident) => {
        for (name, bytes) in vectors() {
            match name.strip_prefix("docker.swarmkit.v1.").unwrap() {
                "SessionRequest" => $check::<SessionRequest>(&bytes),
                "SessionMessage" => $check::<SessionMessage>(&bytes),
                "AssignmentsMessage" => $check::<AssignmentsMessage>(&bytes),
                "UpdateTaskStatusRequest" => $check::<UpdateTaskStatusRequest>(&bytes),
                other => panic!("no test for {other}"),
            }
        }
    };
}

#[test]
fn fields_of_a_newer_swarmkit_are_passed_over() {
    for_each_vector!(passes_over);
}

#[test]
fn fields_of_a_newer_swarmkit_are_passed_over_inside_of_messages() {
    let (_, bytes) = vectors().into_iter().find(|(name, _)| name.ends_with("SessionMessage")).unwrap();
    let known = SessionMessage::decode(bytes.as_slice()).unwrap();
    let node = known.node.clone().unwrap().encode_to_vec();
    for node in newer(&node) {
        let mut bytes = SessionMessage { node: None, ..known.clone() }.encode_to_vec();
        encode_key(2, WireType::LengthDelimited, &mut bytes);
        encode_varint(node.len() as u64, &mut bytes);
        bytes.extend(node);
        assert_eq!(SessionMessage::decode(bytes.as_slice()).unwrap(), known);
    }
}

#[test]
fn damaged_swarmkit_messages_never_panic() {
    for_each_vector!(survives);
    let join: serde_json::Value = serde_json::from_str(include_str!("vectors/01-join-and-ca.json")).unwrap();
    survives::<IssueNodeCertificateRequest>(
        &hex::decode(join["IssueNodeCertificateRequest"].as_str().unwrap()).unwrap(),
    );
    // A list that says it has four thousand million bytes.
    let claim = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(NodeCertificateStatusResponse::decode(&claim[..]).is_err());
}

#[test]
fn fields_of_a_newer_networkdb_are_passed_over() {
    let endpoint = EndpointRecord {
        name: "web.1".to_owned(),
        service_name: "web".to_owned(),
        service_id: "s".to_owned(),
        virtual_ip: Some(IpAddr::from([10, 0, 1, 2])),
        endpoint_ip: IpAddr::from([10, 0, 1, 3]),
        ingress_ports: Vec::new(),
        aliases: vec!["w".to_owned()],
        task_aliases: Vec::new(),
        service_disabled: true,
    };
    let address = IpAddr::from([10, 0, 1, 3]);
    let subnet = ipnet::IpNet::new(address, 24).unwrap();
    let peer = PeerRecord {
        address: EndpointAddress::new(address, subnet),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        vtep: address,
    };
    for newer in newer(&endpoint.encode()) {
        assert_eq!(EndpointRecord::decode(&newer).unwrap(), endpoint);
    }
    for newer in newer(&peer.encode()) {
        assert_eq!(PeerRecord::decode(&newer).unwrap(), peer);
    }
}

/// One part of a compound is of a kind that comes later: the others count.
#[test]
fn kinds_of_a_newer_networkdb_are_refused_alone() {
    // An envelope: field 1 the kind, field 2 the message.
    let later = vec![0x08, 0x63, 0x12, 0x00];
    let known = GossipMessage::Node(NodeEvent::default());
    let compound = GossipMessage::Compound(vec![later, known.encode()]);
    let unfolded = GossipMessage::decode_all(&compound.encode());
    assert_eq!(unfolded.messages, [known]);
    assert_eq!(unfolded.refused.len(), 1);
}
