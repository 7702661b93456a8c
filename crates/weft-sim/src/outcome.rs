//! What came of a run.

use std::time::Duration;

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inputs of all nodes.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams lost, by chance or by a cut.
    pub dropped: u64,
    /// Datagrams that arrived twice.
    pub duplicated: u64,
    /// Streams opened.
    pub streams: u64,
    /// Streams that failed.
    pub streams_failed: u64,
    /// Cuts of the network.
    pub cuts: u64,
    /// Nodes that died.
    pub crashes: u64,
    /// Nodes that came back under their old name.
    pub restored: u64,
    /// Nodes that came back under a new name.
    pub renamed: u64,
    /// Nodes that left in good order.
    pub leaves: u64,
    /// Entries created, changed or deleted.
    pub changes: u64,
    /// Largest datagram in bytes, where messages are encoded.
    pub largest_datagram: usize,
}

/// A run that ended well.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// How much happened.
    pub counts: Counts,
    /// Virtual time from the last fault until all tables were right.
    pub settled: Duration,
    /// Nodes that were up at the end.
    pub nodes: usize,
    /// Entries at the end.
    pub entries: usize,
}
