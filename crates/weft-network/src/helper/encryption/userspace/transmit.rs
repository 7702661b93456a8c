//! From a TAP device to the underlay.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use std::os::fd::AsFd;
use weft_esp::frame::destination;
use weft_esp::offload::{HEADER_LEN, Offload};
use weft_kernel::Tap;
use weft_types::{MacAddr, Vni};

use super::engine::Shared;
use super::train::Train;
use crate::helper::encryption::counters::Drop;

/// How soon a device's thread notices that it shall end.
const LOOK_UP_MS: u16 = 200;
/// The largest frame that a device hands out, with its headers.
const FRAME_MAX: usize = HEADER_LEN + 18 + 65_536;
/// Frames after which packets under way are sent although more are waiting.
const BURST: usize = 64;

/// A device and where its frames go.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) vni: Vni,
    pub(super) tap: Tap,
    /// Which node a station is on.
    pub(super) stations: ArcSwap<HashMap<MacAddr, IpAddr>>,
    ends: AtomicBool,
    /// Its device is gone.
    broken: AtomicBool,
}

impl Port {
    pub(super) fn new(vni: Vni, tap: Tap, stations: HashMap<MacAddr, IpAddr>) -> Self {
        let stations = ArcSwap::from_pointee(stations);
        Self { vni, tap, stations, ends: AtomicBool::new(false), broken: AtomicBool::new(false) }
    }

    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The device's thread.
    pub(super) fn run(self: &Arc<Self>, shared: &Shared) {
        let mut buffer = vec![0; FRAME_MAX];
        let mut train = Train::new(shared, self.vni);
        let mut pace = shared.pace();
        while !self.ends.load(Ordering::Relaxed) && !shared.ends() {
            match self.drain(shared, &mut buffer, &mut train) {
                Some(0) => pace.wait(self.tap.as_fd(), LOOK_UP_MS),
                Some(bytes) => pace.note(bytes),
                None => {
                    self.broken.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    /// Sends what waits: so many bytes. None: the device is gone.
    fn drain(&self, shared: &Shared, buffer: &mut [u8], train: &mut Train<'_>) -> Option<usize> {
        let (nodes, stations) = (shared.nodes.load(), self.stations.load());
        let mut bytes = 0;
        for _ in 0..BURST {
            let len = match self.tap.read(buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::warn!(vni = self.vni.get(), %error, "device of an encrypted network is gone");
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
            Offload::parse(header).finish(frame, |head, data| train.add(node, &sealer, head, data));
        }
        train.leave();
        Some(bytes)
    }
}
