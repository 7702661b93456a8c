//! Security associations of the kernel's ESP.

use std::net::IpAddr;

use weft_plan::mark;
use zeroize::Zeroizing;

use super::message::{
    Fields, IPPROTO_ESP, Writer, XFRM_MODE_TRANSPORT, XFRMA_ALG_AEAD, XFRMA_ENCAP, XFRMA_REPLAY_ESN_VAL,
    XFRMA_REPLAY_VAL, family,
};
use crate::elements::attribute;
use crate::socket::Attributes;

/// AES-GCM in ESP (RFC 4106), by the kernel's name.
const ALGORITHM: &[u8] = b"rfc4106(gcm(aes))";
/// Room for an algorithm's name.
const NAME_LEN: usize = 64;
/// Length of `struct xfrm_selector`.
const SELECTOR_LEN: usize = 56;
/// Length of `struct xfrm_usersa_info`.
const INFO_LEN: usize = 224;
/// Frames of ESP in UDP (`UDP_ENCAP_ESPINUDP`, RFC 3948).
const ENCAP_ESP_IN_UDP: u16 = 2;

/// What an association is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId {
    /// The receiver.
    pub to: IpAddr,
    /// The receiver's name for it.
    pub spi: u32,
}

/// An association to be made: ESP in transport mode with AES-GCM.
#[derive(Clone, Copy)]
pub struct EspState<'a> {
    /// What it is called.
    pub id: StateId,
    /// The sender.
    pub from: IpAddr,
    /// Key and salt.
    pub key: &'a [u8],
    /// Length of the check value in bytes.
    pub icv_len: usize,
    /// So many sequence numbers below the highest one, or a few more, are taken, each once; 0: packets are taken however
    /// often.
    pub window: u32,
    /// The UDP port of both sides; none: ESP alone.
    pub encapsulation: Option<u16>,
}

impl std::fmt::Debug for EspState<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EspState").field("id", &self.id).field("from", &self.from).finish_non_exhaustive()
    }
}

/// An association as the kernel shows it, without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenState {
    /// What it is called.
    pub id: StateId,
    /// The sender.
    pub from: IpAddr,
    /// Packets that were sealed, or that were authentic and new.
    pub packets: u64,
    /// Packets that had come before, or came too late to say.
    pub replayed: u32,
    /// Packets that nobody with the key made like this.
    pub not_authentic: u32,
    /// The last sequence number that was sent.
    pub sequence: u32,
}

/// Body of a message that makes it (`struct xfrm_usersa_info` and attributes). Wiped when dropped.
pub(super) fn new_state(state: &EspState<'_>) -> Zeroizing<Vec<u8>> {
    let mut out = Writer::default();
    // No selector: policies say what is sent by it.
    out.zeros(SELECTOR_LEN).id(state.id.to, state.id.spi).address(state.from).lifetimes();
    // Statistics (3 words) and the sequence number of a request, which the kernel fills.
    out.zeros(16).u32(mark::XFRM_REQID).u16(family(state.id.to)).u8(XFRM_MODE_TRANSPORT);
    // The old kind of window and no flags.
    out.u8(0).u8(0).zeros(7);
    // Never grows, so that no copy of the key is left behind.
    let mut body = Zeroizing::new(Vec::with_capacity(1024));
    body.extend_from_slice(&out.0);
    attribute(&mut body, XFRMA_ALG_AEAD, &aead(state));
    if let Some(port) = state.encapsulation {
        let mut out = Writer::default();
        // The last field is an original address, which transport mode without translation does not have.
        out.u16(ENCAP_ESP_IN_UDP).be16(port).be16(port).zeros(2 + 16);
        attribute(&mut body, XFRMA_ENCAP, &out.0);
    }
    if state.window > 0 {
        attribute(&mut body, XFRMA_REPLAY_ESN_VAL, &window(state.window));
    }
    body
}

/// `struct xfrm_algo_aead`: lengths in bits.
fn aead(state: &EspState<'_>) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(NAME_LEN + 8 + state.key.len()));
    out.extend_from_slice(ALGORITHM);
    out.resize(NAME_LEN, 0);
    out.extend((state.key.len() as u32 * 8).to_ne_bytes());
    out.extend((state.icv_len as u32 * 8).to_ne_bytes());
    out.extend_from_slice(state.key);
    out
}

/// `struct xfrm_replay_state_esn`: its window may be larger than the old kind's 32, with sequence numbers of 32 bits, too.
///
/// Sizes that are no power of two are rounded up: with those the kernel notes the first number in a wrong place and takes it
/// twice (`xfrm_replay_advance_bmp` computes the place as `(seq - 1) % window`, with a `seq` of 0 before the first).
fn window(size: u32) -> Vec<u8> {
    let size = size.next_power_of_two().max(u32::BITS);
    let words = size / u32::BITS;
    let mut out = Writer::default();
    // Words of the bitmap, then the last numbers sent and received, and their upper halves.
    out.u32(words).zeros(16).u32(size).zeros(words as usize * 4);
    out.0
}

/// Body of a message that names one (`struct xfrm_usersa_id`).
pub(super) fn name(id: StateId) -> Vec<u8> {
    let mut out = Writer::default();
    out.address(id.to).be32(id.spi).u16(family(id.to)).u8(IPPROTO_ESP).zeros(1);
    out.0
}

/// One answer of a dump; none for what is not Weft's.
pub(super) fn seen(answer: &[u8]) -> Option<SeenState> {
    let info = Fields(answer);
    // Places in `struct xfrm_usersa_info`.
    let family = info.u16(212)?;
    let ours = info.u32(208)? == mark::XFRM_REQID && info.u8(76)? == IPPROTO_ESP;
    let id = StateId { to: info.address(56, family)?, spi: info.be32(72)? };
    let state = SeenState {
        id,
        from: info.address(80, family)?,
        packets: info.u64(168)?,
        replayed: info.u32(192)?.saturating_add(info.u32(196)?),
        not_authentic: info.u32(200)?,
        sequence: sequence(answer.get(INFO_LEN..).unwrap_or_default()).unwrap_or_default(),
    };
    ours.then_some(state)
}

fn sequence(attributes: &[u8]) -> Option<u32> {
    Attributes(attributes).find_map(|(kind, value)| match kind {
        // `struct xfrm_replay_state` begins with it, in the other one it is second.
        XFRMA_REPLAY_VAL => Fields(value).u32(0),
        XFRMA_REPLAY_ESN_VAL => Fields(value).u32(4),
        _ => None,
    })
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
