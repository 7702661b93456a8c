//! Policies of the kernel's ESP: what must be encrypted, and how.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_plan::{SourcePorts, mark};

use super::message::{Fields, IPPROTO_ESP, IPPROTO_UDP, Writer, XFRM_MODE_TRANSPORT, XFRMA_TMPL, family};
use super::state::StateId;
use crate::elements::attribute;
use crate::socket::Attributes;

const XFRM_POLICY_OUT: u8 = 1;
const XFRM_POLICY_ALLOW: u8 = 0;
const XFRM_POLICY_BLOCK: u8 = 1;
/// Of two policies for a packet the one with the smaller number counts.
const PRIORITY_ESP: u32 = 1000;
const PRIORITY_BLOCK: u32 = 2000;
/// Length of `struct xfrm_userpolicy_info`.
const INFO_LEN: usize = 168;

/// What packets of encrypted networks a policy is for: from the ports of [`SourcePorts::Encrypted`] to the data path's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// The sender.
    pub from: IpNet,
    /// The receiver.
    pub to: IpNet,
    /// The data path's UDP port.
    pub port: u16,
}

impl Way {
    /// From one node to another.
    pub fn between(from: IpAddr, to: IpAddr, port: u16) -> Self {
        Self { from: from.into(), to: to.into(), port }
    }

    /// To everywhere: one of IPv4, one of IPv6.
    pub fn anywhere(port: u16) -> [Self; 2] {
        let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        any.map(|ip| {
            let all = IpNet::new(ip, 0).unwrap_or_else(|_| ip.into());
            Self { from: all, to: all, port }
        })
    }
}

/// A policy for packets that leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EspPolicy {
    /// For which.
    pub way: Way,
    /// Send by this association alone; none: do not send.
    pub by: Option<StateId>,
}

/// Body of a message that makes it or takes an older one's place (`struct xfrm_userpolicy_info`, and the template of the
/// association).
pub(super) fn new_policy(policy: &EspPolicy) -> Vec<u8> {
    let mut out = Writer::default();
    let (priority, action) = match policy.by {
        Some(_) => (PRIORITY_ESP, XFRM_POLICY_ALLOW),
        None => (PRIORITY_BLOCK, XFRM_POLICY_BLOCK),
    };
    selector(&mut out, &policy.way);
    // The kernel chooses the index. No flags, not shared.
    out.lifetimes().u32(priority).u32(0).u8(XFRM_POLICY_OUT).u8(action).zeros(2 + 4);
    if let Some(id) = policy.by {
        attribute(&mut out.0, XFRMA_TMPL, &template(policy.way.from.addr(), id));
    }
    out.0
}

/// `struct xfrm_user_tmpl`: this association and no other, with any algorithms, not optional.
fn template(from: IpAddr, id: StateId) -> Vec<u8> {
    let mut out = Writer::default();
    out.id(id.to, id.spi).u16(family(id.to)).zeros(2).address(from).u32(mark::XFRM_REQID);
    out.u8(XFRM_MODE_TRANSPORT).zeros(3).u32(u32::MAX).u32(u32::MAX).u32(u32::MAX);
    out.0
}

/// `struct xfrm_selector`.
fn selector(out: &mut Writer, way: &Way) {
    out.address(way.to.addr()).address(way.from.addr()).be16(way.port).be16(u16::MAX);
    out.be16(SourcePorts::ENCRYPTED_FIRST).be16(SourcePorts::ENCRYPTED_MASK);
    out.u16(family(way.to.addr())).u8(way.to.prefix_len()).u8(way.from.prefix_len());
    // Then any interface and any user.
    out.u8(IPPROTO_UDP).zeros(3 + 8);
}

/// Body of a message that names the policy of a way (`struct xfrm_userpolicy_id`).
pub(super) fn name(way: &Way) -> Vec<u8> {
    let mut out = Writer::default();
    selector(&mut out, way);
    out.u32(0).u8(XFRM_POLICY_OUT).zeros(3);
    out.0
}

/// One answer of a dump; none for what is not Weft's: by its association's number, or because it forbids exactly what
/// Weft forbids.
pub(super) fn seen(answer: &[u8]) -> Option<EspPolicy> {
    let info = Fields(answer);
    // Places in `struct xfrm_userpolicy_info`, which begins with the selector.
    let family = info.u16(40)?;
    let net = |at, prefix| IpNet::new(info.address(at, family)?, info.u8(prefix)?).ok();
    let way = Way { to: net(0, 42)?, from: net(16, 43)?, port: info.be16(32)? };
    let sources = (SourcePorts::ENCRYPTED_FIRST, SourcePorts::ENCRYPTED_MASK);
    let ours = info.be16(34)? == u16::MAX
        && (info.be16(36)?, info.be16(38)?) == sources
        && info.u8(44)? == IPPROTO_UDP
        && info.u8(160)? == XFRM_POLICY_OUT;
    let by = match info.u8(161)? {
        XFRM_POLICY_BLOCK => None,
        _ => Some(association(answer.get(INFO_LEN..)?)?),
    };
    ours.then_some(EspPolicy { way, by })
}

/// Tunnel packets of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPackets {
    /// Their sender.
    pub from: IpAddr,
    /// Their receivers.
    pub to: BTreeSet<IpAddr>,
    /// Their UDP port of destination.
    pub port: u16,
}

/// Whether an answer of a dump is somebody else's policy for such packets when they leave.
pub(super) fn is_others_for(answer: &[u8], packets: &TunnelPackets) -> bool {
    seen(answer).is_none() && selects(answer, packets).unwrap_or_default()
}

fn selects(answer: &[u8], packets: &TunnelPackets) -> Option<bool> {
    let info = Fields(answer);
    let (family_of, any) = (info.u16(40)?, 0);
    let net = |at, prefix| IpNet::new(info.address(at, family_of)?, info.u8(prefix)?).ok();
    let (to, from) = match family_of {
        0 => (None, None),
        _ => (Some(net(0, 42)?), Some(net(16, 43)?)),
    };
    let contains = |net: Option<IpNet>, ip: &IpAddr| net.is_none_or(|net| net.contains(ip));
    let port = (info.be16(32)? ^ packets.port) & info.be16(34)? == 0;
    Some(
        info.u8(160)? == XFRM_POLICY_OUT
            && [any, IPPROTO_UDP].contains(&info.u8(44)?)
            && port
            && contains(from, &packets.from)
            && packets.to.iter().any(|ip| contains(to, ip)),
    )
}

/// What the one template names.
fn association(attributes: &[u8]) -> Option<StateId> {
    let template = Attributes(attributes).find(|(kind, _)| *kind == XFRMA_TMPL)?.1;
    let fields = Fields(template);
    let id = StateId { to: fields.address(0, fields.u16(24)?)?, spi: fields.be32(16)? };
    let ours = fields.u32(44)? == mark::XFRM_REQID && fields.u8(20)? == IPPROTO_ESP;
    // Of several the first one is not all that is done.
    (ours && template.len() == TEMPLATE_LEN).then_some(id)
}

/// Length of `struct xfrm_user_tmpl`.
const TEMPLATE_LEN: usize = 64;

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
