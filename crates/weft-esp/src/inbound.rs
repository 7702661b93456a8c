//! What packets come in by, shared between a peer's state and the threads that receive.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::frame::Proof;
use crate::{Opener, Sealer, TrafficKey};

/// A security association that packets come in by.
#[derive(Debug)]
pub struct Inbound {
    spi: u32,
    from: IpAddr,
    opener: Mutex<Opener>,
    proven: AtomicBool,
    /// Milliseconds on the driver's clock.
    heard_ms: AtomicU64,
    /// Shared with what is sent by to the same node.
    far_completes: Arc<AtomicBool>,
}

impl Inbound {
    /// From a Weft node, to which `back` goes.
    pub(crate) fn new(spi: u32, from: IpAddr, key: &TrafficKey, back: &Sealer, now: Duration) -> Self {
        Self { far_completes: back.far_completes(), ..Self::with(spi, from, Opener::new(key), now) }
    }

    /// From a Docker node.
    pub(crate) fn docker(spi: u32, from: IpAddr, key: &TrafficKey, now: Duration) -> Self {
        Self::with(spi, from, Opener::docker(key), now)
    }

    fn with(spi: u32, from: IpAddr, opener: Opener, now: Duration) -> Self {
        let heard_ms = AtomicU64::new(now.as_millis() as u64);
        let (opener, proven) = (Mutex::new(opener), AtomicBool::new(false));
        Self { spi, from, opener, proven, heard_ms, far_completes: Arc::default() }
    }

    /// Its SPI.
    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// The node that sends by it.
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// Opens packets.
    pub fn opener(&self) -> std::sync::MutexGuard<'_, Opener> {
        self.opener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an authentic packet came.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// An authentic packet came. True for the first: then [`Peer::on_proven`](crate::Peer::on_proven) must hear of it. A
    /// [`DockerPeer`](crate::DockerPeer) need not.
    pub fn note_heard(&self, now: Duration) -> bool {
        self.heard_ms.store(now.as_millis() as u64, Ordering::Relaxed);
        // Looked at first: to exchange it takes as long as to look at the packet.
        !self.is_proven() && !self.proven.swap(true, Ordering::AcqRel)
    }

    /// An authentic proof came: what the other node can do counts for as long as these keys do.
    pub fn note_proof(&self, proof: Proof) {
        self.far_completes.store(proof.completes_checksums, Ordering::Relaxed);
    }

    /// When the last packet came, or when it was made.
    pub(crate) fn heard(&self) -> Duration {
        Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }
}
