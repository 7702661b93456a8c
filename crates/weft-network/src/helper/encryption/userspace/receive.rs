//! From the underlay to the TAP devices.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use weft_esp::frame::{ENCAPSULATION_LEN, read_proof, take};
use weft_esp::{Frame, HEADER_LEN, Inbound, Joiner, NEXT_UDP, Refused, spi_of};
use weft_types::Vni;

use super::engine::Shared;
use super::node::Node;
use super::raw::Raw;
use crate::helper::encryption::counters::Drop;

/// How soon the thread notices that it shall end.
const LOOK_UP_MS: u16 = 100;
/// The kernel joins datagrams of one sender up to this size.
pub(super) const BUFFER_LEN: usize = 65_536;
/// So many of these are opened before the first is delivered, where they wait: who reads what they carry is woken once for all.
pub(super) const BUFFERS: usize = 8;
/// So many bytes that come at once are a part of something larger; what is less is delivered at once.
const LARGE: usize = 16 << 10;
/// What one packet with its IP header takes at most on any underlay.
const PACKET_MAX: usize = 9_216;
/// Calls after which others have their turn although more waits.
const BURST: usize = 64;

/// The thread that receives ESP alone.
pub(super) fn run_raw(shared: &Shared, raw: &Raw) {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut intake = Intake::default();
    let mut pace = shared.pace();
    while !shared.ends() {
        intake.answered.clear();
        // As many as there are, up to a buffer full, so that segments of one connection can be joined.
        let mut begin = 0;
        let mut packets = Vec::new();
        while begin + PACKET_MAX <= BUFFER_LEN {
            let Some((place, from)) = raw.receive(&mut buffer[begin..begin + PACKET_MAX]) else { break };
            packets.push((begin + place.start..begin + place.end, from));
            begin += place.end;
        }
        if packets.is_empty() {
            pace.wait(LOOK_UP_MS, |limit| {
                // Whatever it says, whoever waits looks for himself.
                let _ = poll(&mut [PollFd::new(raw.as_fd(), PollFlags::POLLIN)], PollTimeout::from(limit));
            });
            continue;
        }
        pace.note(begin);
        for (place, from) in packets {
            intake.add(shared, from, &mut buffer, place);
        }
        intake.deliver(shared, &mut buffer);
    }
}

/// Delivers what waits in a socket, and says how many bytes that was.
pub(super) fn drain(shared: &Shared, socket: &UdpSocket, buffer: &mut [u8], intake: &mut Intake) -> usize {
    let (mut bytes, mut filled) = (0, 0);
    for _ in 0..BURST {
        match receive(socket, &mut buffer[filled..filled + BUFFER_LEN]) {
            Ok((len, size, from)) => {
                bytes += len;
                let end = filled + len;
                for begin in (filled..end).step_by(size) {
                    intake.add(shared, from, buffer, begin..end.min(begin + size));
                }
                filled = end;
                if len < LARGE || filled + BUFFER_LEN > buffer.len() {
                    intake.deliver(shared, buffer);
                    filled = 0;
                }
            }
            Err(ErrorKind::Interrupted) => {}
            // Also answers of hosts where nobody listens yet.
            Err(_) => break,
        }
    }
    intake.deliver(shared, buffer);
    bytes
}

/// Bytes, the size of the datagrams in them, and the sender.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<(usize, usize, IpAddr), ErrorKind> {
    let mut space = nix::cmsg_space!(i32);
    let mut slices = [IoSliceMut::new(buffer)];
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT);
    let received = received.map_err(|errno: Errno| std::io::Error::from(errno).kind())?;
    let joined = received.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
        ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok().filter(|size| *size > 0),
        _ => None,
    });
    let from = received.address.as_ref().and_then(sender).ok_or(ErrorKind::Other)?;
    Ok((received.bytes, joined.unwrap_or(received.bytes).max(1), from))
}

pub(super) fn sender(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    let v6 = || address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into()));
    v4.or_else(v6).map(|address| address.ip().to_canonical())
}

/// The node that packets came from, and what it last sent by: looked up once for all that came together.
struct Sender {
    node: Arc<Node>,
    now: Duration,
    inbound: Option<Arc<Inbound>>,
}

/// Frames of one network that came in one buffer, on their way to its device.
#[derive(Default)]
pub(super) struct Intake {
    sender: Option<Sender>,
    vni: Option<Vni>,
    frames: Vec<Frame>,
    joiner: Joiner,
    /// Queues of devices that were written to: answers may wait there already.
    pub(super) answered: Vec<(Vni, usize)>,
}

impl Intake {
    /// Opens the packet at this place.
    fn add(&mut self, shared: &Shared, from: IpAddr, buffer: &mut [u8], place: Range<usize>) {
        match self.open(shared, from, buffer, place) {
            Ok(Some((vni, frame))) => {
                if self.vni.is_some_and(|now| now != vni) {
                    self.deliver(shared, buffer);
                }
                self.vni = Some(vni);
                self.frames.push(frame);
            }
            Ok(None) => {}
            Err(drop) => shared.counters.count(drop),
        }
    }

    fn sender(&mut self, shared: &Shared, from: IpAddr) -> Result<&mut Sender, Drop> {
        if self.sender.as_ref().is_none_or(|sender| sender.node.address != from) {
            let node = shared.nodes.load().get(&from).cloned().ok_or(Drop::Stranger)?;
            self.sender = Some(Sender { node, now: shared.now(), inbound: None });
        }
        self.sender.as_mut().ok_or(Drop::Stranger)
    }

    fn deliver(&mut self, shared: &Shared, buffer: &mut [u8]) {
        self.sender = None;
        let Some(vni) = self.vni.take() else { return };
        let ports = shared.ports.load();
        match ports.get(&vni) {
            Some(port) => {
                let answered = &mut self.answered;
                self.joiner.join(buffer, &self.frames, port.takes(), &mut |header, parts| match port
                    .write(header, parts)
                {
                    Ok(queue) if answered.last() == Some(&(vni, queue)) => {}
                    Ok(queue) => answered.push((vni, queue)),
                    Err(_) => shared.counters.count(Drop::NotDelivered),
                });
            }
            None => self.frames.iter().for_each(|_| shared.counters.count(Drop::OtherNetwork)),
        }
        self.frames.clear();
    }

    /// The network and the frame that was in a packet; none for what only shows that keys work.
    fn open(
        &mut self,
        shared: &Shared,
        from: IpAddr,
        buffer: &mut [u8],
        place: Range<usize>,
    ) -> Result<Option<(Vni, Frame)>, Drop> {
        let malformed = Drop::Refused(Refused::Malformed);
        let begin = place.start;
        let packet = buffer.get_mut(place).ok_or(malformed)?;
        let Sender { node, now, inbound } = self.sender(shared, from)?;
        let Some(spi) = spi_of(packet) else {
            return node.on_message(shared, packet).map(|()| None).map_err(Drop::Refused);
        };
        let inbound = known(shared, node, inbound, spi)?;
        let opened = inbound.opener().open(packet).map_err(|why| {
            node.note_refused(why);
            Drop::Refused(why)
        })?;
        if inbound.note_heard(*now) {
            node.on_proven(shared, spi);
        }
        if opened.next_header != NEXT_UDP {
            return Ok(None);
        }
        if let Some(proof) = read_proof(opened.payload) {
            inbound.note_proof(proof);
            return Ok(None);
        }
        let (vni, left, frame) = take(opened.payload).ok_or(malformed)?;
        let begin = begin + HEADER_LEN + ENCAPSULATION_LEN;
        Ok(Some((vni, Frame { place: begin..begin + frame.len(), left })))
    }
}

/// What is received by under an SPI, unless it is the `last` one anyway.
fn known<'a>(
    shared: &Shared,
    node: &Node,
    last: &'a mut Option<Arc<Inbound>>,
    spi: u32,
) -> Result<&'a Inbound, Drop> {
    if last.as_ref().is_none_or(|inbound| inbound.spi() != spi) {
        let Some(found) = shared.inbound(spi) else {
            node.on_unknown_spi(shared);
            return Err(Drop::UnknownSpi);
        };
        if found.from() != node.address {
            return Err(Drop::Stranger);
        }
        *last = Some(found);
    }
    last.as_deref().ok_or(Drop::UnknownSpi)
}
