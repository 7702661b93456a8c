//! Segments of TCP and datagrams of UDP as they came over the wire, joined into the large frames that a TAP device takes:
//! the kernel then does the work of one frame for dozens. What the kernel calls GRO, for what it cannot see into.
//!
//! Rules:
//! - Joined is only what cutting the whole again would give back, byte for byte. The one exception is the identification
//!   of IPv4 packets that must not be fragmented, where it means nothing (RFC 6864, section 4).
//! - So all but the last one carry as much as the first one, and only the last segment may be marked as the end (PSH).
//! - Those whose checksums are wrong are never joined, but given on for the kernel to judge. Checksums that the sender left
//!   open are not looked at: nothing happened to the frame since, and the kernel completes them where it needs to.
//! - Frames of one connection keep their order. Those of different ones may change theirs, within one call.
//! - Nothing waits: when a call returns everything was given on.

use std::io::IoSlice;
use std::ops::Range;

use weft_wire::vxlan::RemoteChecksum;

use crate::frame::ETHERNET_LEN;
use crate::offload::{HEADER_LEN, Offload};
use crate::segment::Segment;
use crate::transport::Transport;

/// Connections whose segments may come in turn.
const MAX_OPEN: usize = 4;
/// Slices of one frame; the kernel takes 1024 (`UIO_MAXIOV`), a datagram as the kernel joins it has no more than 64.
const MAX_SLICES: usize = 64;
/// The length fields of IP have 16 bits.
const MAX_IP_LEN: usize = 65_535;

/// What a device takes large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Segments of TCP alone.
    Tcp,
    /// Datagrams of UDP, too (Linux from 6.2).
    TcpAndUdp,
}

impl Takes {
    fn takes(self, segment: &Segment) -> bool {
        self == Self::TcpAndUdp || segment.transport == Transport::Tcp
    }
}

/// A frame to give on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its place in the buffer.
    pub place: Range<usize>,
    /// The checksum that is left to complete.
    pub left: Option<RemoteChecksum>,
}

impl Frame {
    /// A segment that may be joined.
    fn segment(&self, bytes: &[u8], takes: Takes) -> Option<Segment> {
        let segment = Segment::of(bytes).filter(|segment| takes.takes(segment))?;
        self.left.is_none_or(|left| segment.has_checksum(left)).then_some(segment)
    }
}

/// See the module. Keeps its memory from call to call.
#[derive(Debug, Default)]
pub struct Joiner {
    /// In the order in which they began.
    open: Vec<Batch>,
    /// Their memory is used again.
    spare: Vec<Batch>,
}

/// Takes a header for a TAP device and the parts of a frame.
type Put<'a> = dyn FnMut(&[u8; HEADER_LEN], &[IoSlice<'_>]) + 'a;

impl Joiner {
    /// Nothing is under way.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives on the Ethernet frames `frames`, which are in the order in which they came, all of one network, and do
    /// not overlap. Of those that are joined the first one's headers are written anew, in `buffer`.
    pub fn join(&mut self, buffer: &mut [u8], frames: &[Frame], takes: Takes, put: &mut Put<'_>) {
        for frame in frames {
            let Some(bytes) = buffer.get(frame.place.clone()) else { continue };
            let segment = frame.segment(bytes, takes);
            let known = self.position(buffer, bytes);
            if let (Some(at), Some(segment)) = (known, segment)
                && self.open[at].add(buffer, frame, &segment)
            {
                if self.open[at].is_closed_by(&segment) {
                    self.give(at, buffer, put);
                }
                continue;
            }
            while let Some(at) = self.position(buffer, &buffer[frame.place.clone()]) {
                self.give(at, buffer, put);
            }
            match segment.filter(|segment| !segment.push) {
                Some(segment) => self.begin(frame, segment, buffer, put),
                None => alone(&buffer[frame.place.clone()], frame.left, put),
            }
        }
        while !self.open.is_empty() {
            self.give(0, buffer, put);
        }
    }

    fn position(&self, buffer: &[u8], frame: &[u8]) -> Option<usize> {
        self.open.iter().position(|batch| batch.may_be_with(buffer, frame))
    }

    fn begin(&mut self, frame: &Frame, segment: Segment, buffer: &mut [u8], put: &mut Put<'_>) {
        if self.open.len() == MAX_OPEN {
            self.give(0, buffer, put);
        }
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.others.clear();
        (batch.first, batch.data, batch.push) = (frame.place.clone(), segment.len, false);
        (batch.segment, batch.left) = (segment, frame.left);
        self.open.push(batch);
    }

    fn give(&mut self, at: usize, buffer: &mut [u8], put: &mut Put<'_>) {
        let batch = self.open.remove(at);
        batch.give(buffer, put);
        self.spare.push(batch);
    }
}

fn alone(frame: &[u8], left: Option<RemoteChecksum>, put: &mut Put<'_>) {
    // The headers' length is only a hint, and the kernel sees to it that the checksum is among them.
    let header = left.map_or([0; HEADER_LEN], |left| Offload::checksum(left).header(0));
    put(&header, &[IoSlice::new(frame)]);
}

/// Segments that follow one another.
#[derive(Debug, Default)]
struct Batch {
    /// The whole frame.
    first: Range<usize>,
    segment: Segment,
    /// What is to be completed of the first one.
    left: Option<RemoteChecksum>,
    /// Only the data.
    others: Vec<Range<usize>>,
    /// Bytes of all.
    data: usize,
    /// The last one says so.
    push: bool,
}

impl Batch {
    fn may_be_with(&self, buffer: &[u8], frame: &[u8]) -> bool {
        self.segment.may_be_with(&buffer[self.first.clone()], frame)
    }

    /// False: the frame does not go on where this ends.
    fn add(&mut self, buffer: &[u8], frame: &Frame, next: &Segment) -> bool {
        let range = &frame.place;
        let (first, bytes) = (&buffer[self.first.clone()], &buffer[range.clone()]);
        let data = self.data + next.len;
        let fits = self.others.len() + 1 < MAX_SLICES
            && self.segment.headers - ETHERNET_LEN + data <= MAX_IP_LEN
            && next.len <= self.segment.len;
        let follows = self.segment.goes_on_with(self.data, next)
            && self.segment.leads_to(first, next, bytes, self.others.len() + 1);
        let is_sound = |segment: &Segment, bytes, left: Option<_>| {
            if left.is_some() { segment.has_sound_header(bytes) } else { segment.is_sound(bytes) }
        };
        // The first one's turn comes with the second: most frames are alone, and need not be looked through.
        let sound = || {
            is_sound(next, bytes, frame.left)
                && (!self.others.is_empty() || is_sound(&self.segment, first, self.left))
        };
        if !(fits && follows && sound()) {
            return false;
        }
        self.others.push(range.start + next.headers..range.end);
        (self.data, self.push) = (data, next.push);
        true
    }

    /// Whether nothing may follow `last`.
    fn is_closed_by(&self, last: &Segment) -> bool {
        last.push || last.len < self.segment.len
    }

    fn give(&self, buffer: &mut [u8], put: &mut Put<'_>) {
        if self.others.is_empty() {
            return alone(&buffer[self.first.clone()], self.left, put);
        }
        let segment = &self.segment;
        let head = &mut buffer[self.first.clone()][..segment.headers];
        segment.write_whole(head, self.data, self.push);
        let header = Offload::large(segment.transport, segment.v4, segment.start(), segment.len);
        let header = header.header(segment.headers);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        slices[0] = IoSlice::new(&buffer[self.first.clone()]);
        for (slice, range) in slices[1..].iter_mut().zip(&self.others) {
            *slice = IoSlice::new(&buffer[range.clone()]);
        }
        put(&header, &slices[..=self.others.len()]);
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
