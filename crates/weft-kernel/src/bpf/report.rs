//! What the fast path tells about itself.

use weft_plan::{LinkName, NamespaceRef};

/// What a reconciliation found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FastPathReport {
    /// What was made, changed or taken away because it was wished so, in words.
    pub changed: Vec<String>,
    /// What somebody else had damaged and is as wished again, in words.
    pub repaired: Vec<String>,
    /// Interfaces that are not there (yet). Their traffic takes the bridges.
    pub absent: Vec<(NamespaceRef, LinkName)>,
    /// What could not be done, in words. Its traffic takes the bridges; the rest stands.
    pub failed: Vec<String>,
}

impl FastPathReport {
    /// Whether everything was as wished already.
    pub fn is_unchanged(&self) -> bool {
        self.changed.is_empty() && self.repaired.is_empty() && self.failed.is_empty()
    }
}

/// Frames that the programs of this node saw, since they were loaded first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FastPathCounters {
    /// From an endpoint here to another one here.
    pub delivered: u64,
    /// From an endpoint here to another node.
    pub encapsulated: u64,
    /// From another node, handed to the network's namespace.
    pub decapsulated: u64,
    /// From the tunnel or an encrypting engine, delivered to an endpoint.
    pub received: u64,
    /// From an endpoint to the engine that encrypts.
    pub handed_over: u64,
    /// Left to the bridges: broadcast, ARP, unknown stations and all else that no program takes.
    pub slow_path: u64,
    /// Tunnel packets from an address that the sending station is not behind; left to the guard.
    pub wrong_sender: u64,
    /// Tunnel packets that are damaged or of another kind; left to the guard and the kernel's own device.
    pub malformed: u64,
    /// Dropped: congestion was to be marked on a frame that cannot be marked (RFC 6040, section 4.2).
    pub congestion_dropped: u64,
    /// Dropped: what came in by an uplink and no program had sent there.
    pub stray: u64,
    /// Dropped: the host has no route to the other node.
    pub unroutable: u64,
    /// The kernel refused to change or to redirect a frame.
    pub errors: u64,
}

impl FastPathCounters {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("delivered", self.delivered),
            ("encapsulated", self.encapsulated),
            ("decapsulated", self.decapsulated),
            ("received", self.received),
            ("handed_over", self.handed_over),
            ("slow_path", self.slow_path),
            ("wrong_sender", self.wrong_sender),
            ("malformed", self.malformed),
            ("congestion_dropped", self.congestion_dropped),
            ("stray", self.stray),
            ("unroutable", self.unroutable),
            ("errors", self.errors),
        ]
    }
}
