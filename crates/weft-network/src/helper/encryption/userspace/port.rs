//! A TAP device: frames from it to the underlay, and frames to it.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use weft_esp::Takes;
use weft_esp::frame::{Piece, destination, flow};
use weft_esp::offload::{HEADER_LEN, Offload};
use weft_kernel::Tap;
use weft_types::{MacAddr, Vni};

use super::engine::Shared;
use super::train::Train;
use crate::helper::encryption::counters::Drop;

/// The largest frame that a device hands out, with its headers.
pub(super) const FRAME_MAX: usize = HEADER_LEN + 18 + 65_536;
/// Frames after which packets under way are sent although more are waiting.
const BURST: usize = 64;

/// A device and where its frames go.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) vni: Vni,
    /// Its queues. The kernel hands a frame to the one where frames of its flow were last written.
    queues: Vec<Tap>,
    /// Which node a station is on.
    pub(super) stations: ArcSwap<HashMap<MacAddr, IpAddr>>,
    /// Its device is gone.
    broken: AtomicBool,
}

impl Port {
    pub(super) fn new(vni: Vni, queues: Vec<Tap>, stations: HashMap<MacAddr, IpAddr>) -> Self {
        Self { vni, queues, stations: ArcSwap::from_pointee(stations), broken: AtomicBool::new(false) }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The device's queue of that number.
    pub(super) fn queue(&self, queue: usize) -> Option<&Tap> {
        self.queues.get(queue)
    }

    /// What may be written to it.
    pub(super) fn takes(&self) -> Takes {
        if self.queues.iter().all(Tap::takes_large_udp) { Takes::TcpAndUdp } else { Takes::Tcp }
    }

    /// Gives the device a frame, in parts, of which the first has all headers. Answers by which queue.
    pub(super) fn write(&self, header: &[u8; HEADER_LEN], parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flow = parts.first().filter(|_| self.queues.len() > 1).map_or(0, |first| flow(first));
        let queue = ((u64::from(flow) * self.queues.len() as u64) >> 32) as usize;
        self.queues.get(queue).ok_or(ErrorKind::NotFound)?.write(header, parts)?;
        Ok(queue)
    }

    /// Sends what waits in a queue: so many bytes. None: the device is gone.
    pub(super) fn drain(
        &self,
        shared: &Shared,
        queue: usize,
        buffer: &mut [u8],
        train: &mut Train<'_>,
    ) -> Option<usize> {
        let tap = self.queues.get(queue)?;
        let (nodes, stations) = (shared.nodes.load(), self.stations.load());
        train.serve(self.vni);
        let mut bytes = 0;
        for _ in 0..BURST {
            let len = match tap.read(buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!(vni = self.vni.get(), %error, "device of an encrypted network is gone");
                    self.broken.store(true, Ordering::Relaxed);
                    train.leave();
                    return None;
                }
            };
            bytes += len;
            let Some((header, frame)) = buffer[..len].split_first_chunk_mut::<HEADER_LEN>() else { continue };
            // What is for all is for nobody: the bridge answers for stations elsewhere itself.
            let node = destination(frame).and_then(|mac| stations.get(&mac)).and_then(|ip| nodes.get(ip));
            let Some(node) = node else {
                shared.counters.count(Drop::NoStation);
                continue;
            };
            let Some(sealer) = node.sealer() else {
                shared.counters.count(Drop::NoKeys);
                continue;
            };
            let mut put = |piece: Piece<'_>| train.add(node, &sealer, piece);
            let finished = Offload::parse(header).finish(frame, sealer.checksums(), &mut put);
            if !finished {
                shared.counters.count(Drop::NotSent);
            }
        }
        train.leave();
        Some(bytes)
    }
}
