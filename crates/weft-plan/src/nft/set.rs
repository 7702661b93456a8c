//! Named sets and maps.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The type of what `numgen` gives.
const NUMBER: &str = "integer";

/// An expression that has this type.
fn example(part: &str) -> &str {
    match part {
        NUMBER => "numgen random mod 2",
        "ipv4_addr" => "ip daddr",
        "ipv6_addr" => "ip6 daddr",
        other => other,
    }
}

/// A named set, or a map when it has a value type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NftSet {
    /// Type of the key's parts (`ipv4_addr`, `inet_proto`, `inet_service`, `ifname`, and `integer` for what `numgen` gives).
    pub key: Vec<String>,
    /// Types of the value's parts (`verdict` and `mark` too); empty for a set.
    pub value: Vec<String>,
    /// Elements in nft's language: parts joined by ` . `, key and value by ` : `, interface names in quotes.
    pub elements: BTreeSet<String>,
    /// Rules fill it from packets: its elements are the kernel's affair and age. None for sets with elements of ours.
    #[serde(default)]
    pub learnt: Option<Learnt>,
}

/// How a set that rules fill behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// An element that no packet renewed goes after so many seconds.
    pub timeout_s: u32,
    /// No more elements than this.
    pub size: u32,
}

impl NftSet {
    /// An empty set.
    pub fn set(key: &[&str]) -> Self {
        Self::map(key, &[])
    }

    /// An empty map.
    pub fn map(key: &[&str], value: &[&str]) -> Self {
        let own = |types: &[&str]| types.iter().map(|t| (*t).to_owned()).collect();
        Self { key: own(key), value: own(value), elements: BTreeSet::new(), learnt: None }
    }

    /// A set that rules fill.
    pub fn learnt(key: &[&str], learnt: Learnt) -> Self {
        Self { learnt: Some(learnt), ..Self::set(key) }
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        !self.value.is_empty()
    }

    /// `type …` or `typeof …` as nft wants it: a plain number has no type that can be named, only examples of it.
    pub(crate) fn type_clause(&self) -> String {
        let by_example = self.key.iter().any(|part| part == NUMBER);
        let words = |parts: &[String]| {
            let word = |part: &String| if by_example { example(part).to_owned() } else { part.clone() };
            parts.iter().map(word).collect::<Vec<_>>().join(" . ")
        };
        let clause = if by_example { "typeof" } else { "type" };
        let key = words(&self.key);
        if self.is_map() {
            format!("{clause} {key} : {}", words(&self.value))
        } else {
            format!("{clause} {key}")
        }
    }

    /// Same types, whatever the elements. Newer programs list those given by example in a way of their own, which reads as
    /// no type at all.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        let same = |a: &[String], b: &[String]| a == b || a.is_empty() || b.is_empty();
        same(&self.key, &other.key) && self.value == other.value && self.learnt == other.learnt
    }
}
