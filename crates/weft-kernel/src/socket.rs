//! Netlink by request and answer.
//!
//! The kernel handles a netlink request inside the `send` call, so the answer is there when it returns: a blocking socket
//! is the simplest client and the fastest, and it sees the kernel's explanations (`NLMSGERR_ATTR_MSG`), which the
//! ready-made clients drop. Async callers reach it through [`crate::Kernel`].

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::SndBufForce};
use zeroize::{Zeroize, Zeroizing};

use crate::elements::{Message, attribute};
use crate::{KernelError, Netns};

/// Message types of every netlink family (linux/netlink.h).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Length of a netlink header.
const HEADER: usize = 16;
/// The answer is part of a dump that changes interrupted.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The error message carries attributes, and only the request's header before them.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The attribute with the explanation.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// A dump is asked for anew this often before a half-consistent one is taken.
const DUMP_ATTEMPTS: usize = 5;
/// Frames of a transaction of the netfilter family (linux/netfilter/nfnetlink.h).
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_BATCH_GENID: u16 = 1;
/// A transaction is one datagram: so much the kernel shall take. The tables of thousands of services fit.
const SEND_BUFFER: usize = 16 << 20;
/// Longest answer of one `recv`; the kernel fills at most 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Why the kernel refused a request.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It answered with an error.
    Errno {
        /// The error number, positive.
        errno: i32,
        /// Its explanation.
        explanation: Option<String>,
    },
    /// Sending or receiving failed.
    Io(io::Error),
}

impl Refusal {
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Errno { errno, .. } => Some(*errno),
            Self::Io(error) => error.raw_os_error(),
        }
    }

    /// With what was asked.
    pub(crate) fn of(self, request: impl Into<String>) -> KernelError {
        let request = request.into();
        match self {
            Self::Errno { errno, explanation } => {
                let name = nix::errno::Errno::from_raw(errno);
                let mut message = format!("{} ({name:?})", name.desc());
                if let Some(explanation) = explanation {
                    message = format!("{message}: {explanation}");
                }
                KernelError::Refused { request, message, errno }
            }
            Self::Io(source) => KernelError::NoAnswer { request, source },
        }
    }
}

/// A blocking netlink socket that stays in the namespace it was made in.
#[derive(Debug)]
pub(crate) struct NetlinkSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens a socket of a netlink protocol in the namespace.
    pub(crate) fn open(netns: &Netns, protocol: isize) -> Result<Self, KernelError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // All three are comforts that old kernels lack.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            let _ = socket.set_rx_buf_sz(1024 * 1024_i32);
            let _ = setsockopt(&socket, SndBufForce, &SEND_BUFFER);
            Ok(socket)
        };
        let namespace = || netns.path().display().to_string();
        let socket =
            netns.run_in(open)?.map_err(|source| KernelError::Socket { namespace: namespace(), source })?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BUFFER) })
    }

    /// Sends a route request and waits for its acknowledgement; answers before it are returned.
    pub(crate) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let raw = self.encode(message, NLM_F_REQUEST | NLM_F_ACK | flags);
        self.exchange(&raw).map(|answer| decode(&answer.messages))
    }

    /// Asks for all objects of a kind.
    pub(crate) fn dump(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        for attempt in 1.. {
            let raw = self.encode(message.clone(), NLM_F_REQUEST | NLM_F_DUMP);
            let answer = self.exchange(&raw)?;
            if !answer.interrupted || attempt == DUMP_ATTEMPTS {
                return Ok(decode(&answer.messages));
            }
        }
        unreachable!("the last attempt returns")
    }

    fn encode<M: NetlinkSerializable>(&mut self, message: M, flags: u16) -> Vec<u8> {
        let mut message = NetlinkMessage::new(Default::default(), NetlinkPayload::InnerMessage(message));
        message.header.flags = flags;
        message.finalize();
        let mut raw = vec![0; message.buffer_len()];
        message.serialize(&mut raw);
        raw
    }

    /// Sends a message of a family that has no types here: payload without the netlink header.
    pub(crate) fn request_raw(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        let length = HEADER + body.len();
        // There may be keys in it.
        let mut raw = Zeroizing::new(Vec::with_capacity(length));
        raw.extend((length as u32).to_ne_bytes());
        raw.extend(kind.to_ne_bytes());
        raw.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        raw.extend([0; 8]);
        raw.extend(body);
        let mut answer = self.exchange(&raw)?;
        let bodies = answer.messages.iter().map(|message| message[HEADER..].to_vec()).collect();
        answer.messages.iter_mut().for_each(Zeroize::zeroize);
        Ok(bodies)
    }

    /// Leaves nothing of what the kernel said last.
    pub(crate) fn wipe(&mut self) {
        self.buffer.zeroize();
    }

    /// Sends messages of one subsystem of netfilter as a transaction: all are carried out, or none. With a generation it
    /// is only carried out when that is the present one; otherwise the refusal is `ERESTART`.
    pub(crate) fn transaction(
        &mut self,
        subsystem: u8,
        generation: Option<u32>,
        messages: &[Message],
    ) -> Result<(), Refusal> {
        let Some(last) = messages.len().checked_sub(1) else { return Ok(()) };
        let frame = [0, 0, 0, subsystem];
        let mut begin = frame.to_vec();
        if let Some(generation) = generation {
            attribute(&mut begin, NFNL_BATCH_GENID, &generation.to_be_bytes());
        }
        let first = self.sequence.wrapping_add(1);
        let length: usize = messages.iter().map(|message| HEADER + message.body.len()).sum();
        let mut raw = Vec::with_capacity(length + 4 * HEADER);
        self.append(&mut raw, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, &begin);
        for (index, message) in messages.iter().enumerate() {
            let ack = if index == last { NLM_F_ACK } else { 0 };
            let kind = u16::from(subsystem) << 8 | message.kind;
            self.append(&mut raw, kind, NLM_F_REQUEST | NLM_F_CREATE | ack, &message.body);
        }
        let acknowledged = self.sequence;
        self.append(&mut raw, NFNL_MSG_BATCH_END, NLM_F_REQUEST, &frame);
        self.socket.send(&raw, 0).map_err(Refusal::Io)?;
        self.outcome(first, acknowledged)
    }

    fn append(&mut self, raw: &mut Vec<u8>, kind: u16, flags: u16, body: &[u8]) {
        self.sequence = self.sequence.wrapping_add(1);
        raw.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        raw.extend(kind.to_ne_bytes());
        raw.extend(flags.to_ne_bytes());
        raw.extend(self.sequence.to_ne_bytes());
        raw.extend([0; 4]);
        raw.extend(body);
    }

    /// The kernel reports every message that failed, then the last one's acknowledgement; or only that it did not take
    /// the transaction at all, as an answer to its first message.
    fn outcome(&mut self, first: u32, last: u32) -> Result<(), Refusal> {
        let mut failure = None;
        loop {
            self.receive()?;
            for message in split(&self.buffer) {
                let number = word(message, 8);
                if number.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                if let Err(refusal) = Answer::default().take(message) {
                    failure.get_or_insert(refusal);
                }
                if number == last || (number == first && failure.is_some()) {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }

    fn receive(&mut self) -> Result<(), Refusal> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Refusal::Io(error)),
            }
        }
    }

    /// Every request here asks for an acknowledgement or a dump, so there is always an end.
    fn exchange(&mut self, raw: &[u8]) -> Result<Answer, Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut raw = Zeroizing::new(raw.to_vec());
        raw[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        self.socket.send(&raw, 0).map_err(Refusal::Io)?;
        let mut answer = Answer::default();
        loop {
            self.receive()?;
            for message in split(&self.buffer) {
                // Left over from a request that was given up.
                if word(message, 8) != self.sequence {
                    continue;
                }
                if answer.take(message)? {
                    return Ok(answer);
                }
            }
        }
    }
}

#[derive(Default)]
struct Answer {
    messages: Vec<Vec<u8>>,
    interrupted: bool,
}

impl Answer {
    /// Takes one message; true when it was the last.
    fn take(&mut self, message: &[u8]) -> Result<bool, Refusal> {
        let flags = half(message, 6);
        self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
        match half(message, 4) {
            kind @ (NLMSG_ERROR | NLMSG_DONE) => {
                let code = if message.len() >= HEADER + 4 { word(message, HEADER) as i32 } else { 0 };
                if code == 0 {
                    return Ok(true);
                }
                let explanation = if kind == NLMSG_ERROR { explanation(message, flags) } else { None };
                Err(Refusal::Errno { errno: -code, explanation })
            }
            _ => {
                self.messages.push(message.to_vec());
                Ok(false)
            }
        }
    }
}

/// The kernel's own words about an error (`struct nlmsgerr`, then attributes).
fn explanation(message: &[u8], flags: u16) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = HEADER + 4;
    let quoted =
        if flags & NLM_F_CAPPED != 0 { HEADER } else { word(message.get(..request + 4)?, request) as usize };
    let attributes = message.get(request + quoted.next_multiple_of(4)..)?;
    let text = Attributes(attributes).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?.1;
    Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

fn decode(messages: &[Vec<u8>]) -> Vec<RouteNetlinkMessage> {
    let decoded = messages.iter().filter_map(|raw| {
        let header = netlink_packet_core::NetlinkBuffer::new_checked(raw.as_slice()).ok()?;
        let mut parsed = netlink_packet_core::NetlinkHeader::default();
        parsed.message_type = header.message_type();
        match RouteNetlinkMessage::deserialize(&parsed, header.payload()) {
            Ok(message) => Some(message),
            Err(error) => {
                // One odd object (a newer kernel's) must not hide the others.
                tracing::debug!(kind = header.message_type(), error = %error, "undecodable netlink message");
                None
            }
        }
    });
    decoded.collect()
}

/// The messages of one datagram.
fn split(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if datagram.len() < HEADER {
            return None;
        }
        let length = word(datagram, 0) as usize;
        if !(HEADER..=datagram.len()).contains(&length) {
            return None;
        }
        let message = &datagram[..length];
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
        Some(message)
    })
}

/// Netlink attributes: type without flag bits, and value.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.len() < 4 {
            return None;
        }
        let length = usize::from(half(self.0, 0));
        if !(4..=self.0.len()).contains(&length) {
            return None;
        }
        // The two top bits say "nested" and "network byte order".
        let item = (half(self.0, 2) & 0x3fff, &self.0[4..length]);
        self.0 = &self.0[length.next_multiple_of(4).min(self.0.len())..];
        Some(item)
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
