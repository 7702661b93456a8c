//! What is true, what each node told, and whether that is allowed.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use weft_gossip::{EntryView, Event};

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn entry_hash(owner: &str, network: &str, table: &str, key: &str) -> u64 {
    hash((owner, network, table, key))
}

fn value_hash(entry: u64, value: &[u8]) -> u64 {
    hash((entry, value))
}

/// Every value that was ever written, by its owner.
#[derive(Default)]
pub(crate) struct Written {
    values: HashSet<u64>,
    entries: HashSet<u64>,
}

impl Written {
    pub(crate) fn note(&mut self, owner: &str, network: &str, table: &str, key: &str, value: &[u8]) {
        let entry = entry_hash(owner, network, table, key);
        self.entries.insert(entry);
        self.values.insert(value_hash(entry, value));
    }

    /// How many entries there ever were.
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }
}

/// What the node above would believe, having heard all events of one gossip node.
#[derive(Default)]
pub(crate) struct Believed {
    entries: HashMap<u64, u64>,
    /// Order does not matter in it: two nodes that believe the same have the same.
    digest: u64,
}

impl Believed {
    /// Takes an event, or says which rule it breaks.
    pub(crate) fn hear(&mut self, event: &Event, written: &Written) -> Result<(), String> {
        match event {
            Event::EntryUp(view) => self.up(view, written),
            Event::EntryDown(view) => self.down(view),
            _ => Ok(()),
        }
    }

    fn up(&mut self, view: &EntryView, written: &Written) -> Result<(), String> {
        let entry = entry_hash(&view.owner, &view.network, &view.table, &view.key);
        let value = value_hash(entry, &view.value);
        if !written.values.contains(&value) {
            return Err(format!("told a value that its owner never wrote: {view:?}"));
        }
        if let Some(before) = self.entries.insert(entry, value) {
            if before == value {
                return Err(format!("told the same twice: {view:?}"));
            }
            self.digest ^= before;
        }
        self.digest ^= value;
        Ok(())
    }

    fn down(&mut self, view: &EntryView) -> Result<(), String> {
        let entry = entry_hash(&view.owner, &view.network, &view.table, &view.key);
        match self.entries.remove(&entry) {
            Some(value) if value == value_hash(entry, &view.value) => {
                self.digest ^= value;
                Ok(())
            }
            Some(_) => Err(format!("ended another value than it told: {view:?}")),
            None => Err(format!("ended what it never told: {view:?}")),
        }
    }

    pub(crate) fn digest(&self) -> (usize, u64) {
        (self.entries.len(), self.digest)
    }
}

/// A set of entries in a form that compares quickly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) entries: usize,
    pub(crate) digest: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, owner: &str, network: &str, table: &str, key: &str, value: &[u8]) {
        self.entries += 1;
        self.digest ^= value_hash(entry_hash(owner, network, table, key), value);
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.entries += other.entries;
        self.digest ^= other.digest;
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self { entries: self.entries.wrapping_sub(other.entries), digest: self.digest ^ other.digest }
    }
}
