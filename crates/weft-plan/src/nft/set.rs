//! Named sets and maps.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A named set, or a map when it has a value type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NftSet {
    /// Type of the key's parts (`ipv4_addr`, `inet_proto`, `inet_service`, `ifname`).
    pub key: Vec<String>,
    /// Types of the value's parts; empty for a set.
    pub value: Vec<String>,
    /// Elements in nft's language: parts joined by ` . `, key and value by ` : `, interface names in quotes.
    pub elements: BTreeSet<String>,
}

impl NftSet {
    /// An empty set.
    pub fn set(key: &[&str]) -> Self {
        Self::map(key, &[])
    }

    /// An empty map.
    pub fn map(key: &[&str], value: &[&str]) -> Self {
        let own = |types: &[&str]| types.iter().map(|t| (*t).to_owned()).collect();
        Self { key: own(key), value: own(value), elements: BTreeSet::new() }
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        !self.value.is_empty()
    }

    /// `type …` as nft wants it.
    pub(crate) fn type_clause(&self) -> String {
        let key = self.key.join(" . ");
        if self.is_map() { format!("{key} : {}", self.value.join(" . ")) } else { key }
    }

    /// Same types, whatever the elements.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}
