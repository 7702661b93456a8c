//! What a store holds under a key, and how that changes.

/// Which of its writes an entry is from: Consul's `ModifyIndex`, etcd's `mod_revision`. Grows with each of them for as
/// long as the store keeps its data, and tells nothing about other keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub(crate) u64);

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Without the store's prefix.
    pub key: String,
    /// As it was written, by whomever.
    pub value: Vec<u8>,
    /// For the next change of it.
    pub version: Version,
}

/// One difference between what a watch told before and what the store holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key that is new, or was written again.
    Put(Entry),
    /// This key is gone.
    Removed(String),
}
