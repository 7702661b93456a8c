//! What the engine dropped, and why.

use std::sync::atomic::{AtomicU64, Ordering};

use weft_esp::Refused;

/// Counts since the engine began.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Packets under an SPI that nobody agreed on.
    unknown_spi: AtomicU64,
    replayed: AtomicU64,
    not_authentic: AtomicU64,
    malformed: AtomicU64,
    /// Pairings under a key that the managers did not hand out.
    unknown_key: AtomicU64,
    /// From an address that is no peer's, or another one's than the key's.
    stranger: AtomicU64,
    /// Of a network that is not encrypted here.
    other_network: AtomicU64,
    /// Frames to a node with which no keys are agreed on yet.
    no_keys: AtomicU64,
    /// Frames to nobody that is known.
    no_station: AtomicU64,
    /// The kernel did not take them.
    not_sent: AtomicU64,
    not_delivered: AtomicU64,
}

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drop {
    UnknownSpi,
    Refused(Refused),
    Stranger,
    OtherNetwork,
    NoKeys,
    NoStation,
    NotSent,
    NotDelivered,
}

impl Counters {
    pub(super) fn count(&self, drop: Drop) {
        let counter = match drop {
            Drop::UnknownSpi => &self.unknown_spi,
            Drop::Refused(Refused::Replayed) => &self.replayed,
            Drop::Refused(Refused::NotAuthentic) => &self.not_authentic,
            Drop::Refused(Refused::Malformed) => &self.malformed,
            Drop::Refused(Refused::UnknownKey) => &self.unknown_key,
            Drop::Stranger => &self.stranger,
            Drop::OtherNetwork => &self.other_network,
            Drop::NoKeys => &self.no_keys,
            Drop::NoStation => &self.no_station,
            Drop::NotSent => &self.not_sent,
            Drop::NotDelivered => &self.not_delivered,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Those that are not zero, by name.
    pub(super) fn seen(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("unknown_spi", &self.unknown_spi),
            ("replayed", &self.replayed),
            ("not_authentic", &self.not_authentic),
            ("malformed", &self.malformed),
            ("unknown_key", &self.unknown_key),
            ("stranger", &self.stranger),
            ("other_network", &self.other_network),
            ("no_keys", &self.no_keys),
            ("no_station", &self.no_station),
            ("not_sent", &self.not_sent),
            ("not_delivered", &self.not_delivered),
        ];
        let counted = all.map(|(name, counter)| (name, counter.load(Ordering::Relaxed)));
        counted.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}
