//! The netfilter netlink family: the ruleset's generation, and tracked connections.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_NETFILTER;
use weft_plan::Op;
use weft_types::PortProtocol;

use crate::elements::{self, Message, attribute as append};
use crate::socket::{Attributes, NetlinkSocket, Refusal};
use crate::{ConntrackFilter, KernelError, Netns};

/// Subsystems and messages (linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_tables.h).
const CTNETLINK: u16 = 1 << 8;
const CT_GET: u16 = CTNETLINK | 1;
const CT_DELETE: u16 = CTNETLINK | 2;
const CT_GET_STATS: u16 = CTNETLINK | 5;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFTABLES: u16 = (NFNL_SUBSYS_NFTABLES as u16) << 8;
const NFT_GETGEN: u16 = NFTABLES | 16;
const NFTA_GEN_ID: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Length of `struct nfgenmsg`.
const GENMSG: usize = 4;
/// A namespace without any transaction so far has this generation.
const FIRST_GENERATION: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The ruleset's generation, which grows with every transaction; none where the kernel has no nftables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// Whether there cannot be any table yet.
    pub(crate) fn is_first(self) -> bool {
        self.0 <= FIRST_GENERATION
    }

    /// Whether exactly so many transactions lie between the two.
    pub(crate) fn is_followed_by(self, transactions: u32, next: Self) -> bool {
        (0..transactions).fold(self, |generation, _| generation.next()) == next
    }

    /// After one more transaction. Zero is left out when the number wraps round.
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1).max(1))
    }
}

pub(crate) fn open(netns: &Netns) -> Result<NetlinkSocket, KernelError> {
    NetlinkSocket::open(netns, NETLINK_NETFILTER)
}

pub(crate) fn generation(socket: &mut NetlinkSocket) -> Result<Option<Generation>, KernelError> {
    match socket.request_raw(NFT_GETGEN, NLM_F_ACK, &[0; GENMSG]) {
        Ok(answers) => Ok(answers.iter().find_map(|answer| {
            let value = attribute(answer.get(GENMSG..)?, NFTA_GEN_ID)?;
            Some(Generation(u32::from_be_bytes(value.try_into().ok()?)))
        })),
        Err(Refusal::Errno { .. }) => Ok(None),
        Err(refusal) => Err(refusal.of("read the ruleset's generation")),
    }
}

/// Changes elements of sets and maps in one transaction; says whether these operations can be done that way.
pub(crate) fn change_elements(socket: &mut NetlinkSocket, ops: &[&Op]) -> Result<bool, KernelError> {
    let Some(messages) = encode(ops) else { return Ok(false) };
    let what = || ops.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let sent = socket.transaction(NFNL_SUBSYS_NFTABLES, None, &messages);
    sent.map(|()| true).map_err(|refusal| refusal.of(what()))
}

/// The messages for changes of elements; none when one of them cannot be said that way.
pub(crate) fn encode(ops: &[&Op]) -> Option<Vec<Message>> {
    let messages: Option<Vec<_>> = ops.iter().map(|op| elements::messages(op)).collect();
    Some(messages?.into_iter().flatten().collect())
}

/// Carries messages out in one transaction, if the ruleset is of this generation; says whether it was.
pub(crate) fn change_encoded(
    socket: &mut NetlinkSocket,
    generation: Generation,
    messages: &[Message],
    what: impl FnOnce() -> String,
) -> Result<bool, KernelError> {
    match socket.transaction(NFNL_SUBSYS_NFTABLES, Some(generation.0), messages) {
        Ok(()) => Ok(true),
        Err(refusal) if refusal.errno() == Some(nix::errno::Errno::ERESTART as i32) => Ok(false),
        Err(refusal) => Err(refusal.of(what())),
    }
}

/// Forgets connections of both families that match any of the filters.
pub(crate) fn forget(socket: &mut NetlinkSocket, filters: &[ConntrackFilter]) -> Result<usize, KernelError> {
    let mut forgotten = 0;
    // Listing looks at the connections of all namespaces.
    if filters.is_empty() || tracked(socket) == Some(0) {
        return Ok(0);
    }
    for family in [AF_INET, AF_INET6] {
        let entries = match socket.request_raw(CT_GET, NLM_F_DUMP, &[family, 0, 0, 0]) {
            Ok(entries) => entries,
            // No connection tracking, so nothing to forget.
            Err(Refusal::Errno { .. }) => continue,
            Err(refusal) => return Err(refusal.of("list connections")),
        };
        for entry in entries {
            let Some(body) =
                entry.get(GENMSG..).filter(|body| filters.iter().any(|filter| matches(body, filter)))
            else {
                continue;
            };
            let request = delete_request(family, body);
            match socket.request_raw(CT_DELETE, NLM_F_ACK, &request) {
                Ok(_) => forgotten += 1,
                // It ended by itself meanwhile.
                Err(refusal) if refusal.errno() == Some(nix::errno::Errno::ENOENT as i32) => {}
                Err(refusal) => return Err(refusal.of("forget a connection")),
            }
        }
    }
    Ok(forgotten)
}

/// How many connections the namespace has; none where the kernel does not tell.
fn tracked(socket: &mut NetlinkSocket) -> Option<u32> {
    let answers = socket.request_raw(CT_GET_STATS, NLM_F_ACK, &[0; GENMSG]).ok()?;
    let value =
        answers.iter().find_map(|answer| attribute(answer.get(GENMSG..)?, CTA_STATS_GLOBAL_ENTRIES))?;
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn matches(entry: &[u8], filter: &ConntrackFilter) -> bool {
    let original = attribute(entry, CTA_TUPLE_ORIG).unwrap_or_default();
    let reply = attribute(entry, CTA_TUPLE_REPLY).unwrap_or_default();
    let transport = attribute(original, CTA_TUPLE_PROTO).unwrap_or_default();
    let protocol = attribute(transport, CTA_PROTO_NUM).and_then(|value| value.first().copied());
    let port = attribute(transport, CTA_PROTO_DST_PORT).and_then(|value| value.try_into().ok());
    filter.protocol.is_none_or(|wanted| protocol == Some(protocol_number(wanted)))
        && filter.original_port.is_none_or(|wanted| port.map(u16::from_be_bytes) == Some(wanted))
        && filter
            .original_destination
            .is_none_or(|wanted| address(original, CTA_IP_V4_DST, CTA_IP_V6_DST) == Some(wanted))
        && filter
            .reply_source
            .is_none_or(|wanted| address(reply, CTA_IP_V4_SRC, CTA_IP_V6_SRC) == Some(wanted))
}

fn address(tuple: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    let addresses = attribute(tuple, CTA_TUPLE_IP)?;
    let v4 = attribute(addresses, v4).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(IpAddr::from);
    v4.or_else(|| attribute(addresses, v6).and_then(|v| <[u8; 16]>::try_from(v).ok()).map(IpAddr::from))
}

/// IANA's protocol numbers.
fn protocol_number(protocol: PortProtocol) -> u8 {
    match protocol {
        PortProtocol::Tcp => 6,
        PortProtocol::Udp => 17,
        PortProtocol::Sctp => 132,
    }
}

/// The entry's own tuple, zone and number: never another connection that took its place.
fn delete_request(family: u8, entry: &[u8]) -> Vec<u8> {
    let mut request = vec![family, 0, 0, 0];
    for kind in [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID] {
        if let Some(value) = attribute(entry, kind) {
            let nested = if kind == CTA_TUPLE_ORIG { 0x8000 } else { 0 };
            append(&mut request, kind | nested, value);
        }
    }
    request
}
