//! What stands for what on one network, as the daemon tells it.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_types::PortProtocol;

/// Names of one endpoint or service on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    /// All its names.
    pub(crate) names: Vec<String>,
    /// The name its addresses stand for in reverse. A service has none; its own addresses then stand for its first name.
    pub(crate) canonical: Option<String>,
    /// Its addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// The stack whose containers it is for before others.
    pub(crate) stack: Option<String>,
    /// Its addresses are the service's own (virtual ones), which stay while tasks come and go.
    pub(crate) lasting: bool,
    /// Ports with names, for SRV questions.
    pub(crate) ports: Vec<NamedPort>,
}

/// A port that can be found by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct NamedPort {
    /// The user's name for it.
    pub(crate) name: String,
    pub(crate) protocol: PortProtocol,
    /// Where the service listens.
    pub(crate) port: u16,
}

/// The names of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkNames {
    /// The network's id.
    pub(crate) id: String,
    /// The network's name, which can follow a dot.
    pub(crate) name: String,
    /// Its subnets: what has no name there has none anywhere else.
    pub(crate) subnets: Vec<IpNet>,
    /// All that have names on it.
    pub(crate) records: Vec<NameRecord>,
}

/// What to take away and what to add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordChange {
    pub(crate) removed: Vec<NameRecord>,
    pub(crate) added: Vec<NameRecord>,
}

impl RecordChange {
    /// What leads from one list to another, whatever their order.
    pub(crate) fn between(old: &[NameRecord], new: &[NameRecord]) -> Self {
        let mut surplus: HashMap<&NameRecord, usize> = HashMap::with_capacity(old.len());
        for record in old {
            *surplus.entry(record).or_default() += 1;
        }
        let mut added = Vec::new();
        for record in new {
            match surplus.get_mut(record) {
                Some(count) if *count > 0 => *count -= 1,
                _ => added.push(record.clone()),
            }
        }
        let removed = surplus.into_iter().flat_map(|(record, count)| std::iter::repeat_n(record, count));
        Self { removed: removed.cloned().collect(), added }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Takes a list from the old state to the new one.
    pub(crate) fn apply(&self, records: &mut Vec<NameRecord>) {
        let mut removed: HashMap<&NameRecord, usize> = HashMap::with_capacity(self.removed.len());
        for record in &self.removed {
            *removed.entry(record).or_default() += 1;
        }
        if !removed.is_empty() {
            records.retain(|record| match removed.get_mut(record) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    false
                }
                _ => true,
            });
        }
        records.extend_from_slice(&self.added);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(n: u8) -> NameRecord {
        NameRecord { names: vec![format!("n{}", n % 8)], ..NameRecord::default() }
    }

    proptest! {
        #[test]
        fn a_change_leads_from_the_old_to_the_new(old: Vec<u8>, new: Vec<u8>) {
            let sorted = |records: &[NameRecord]| {
                let mut names: Vec<String> = records.iter().map(|r| r.names[0].clone()).collect();
                names.sort();
                names
            };
            let (old, new): (Vec<_>, Vec<_>) = (old.into_iter().map(record).collect(), new.into_iter().map(record).collect());
            let change = RecordChange::between(&old, &new);
            let mut records = old.clone();
            change.apply(&mut records);
            prop_assert_eq!(sorted(&records), sorted(&new));
            prop_assert_eq!(change.is_empty(), sorted(&old) == sorted(&new));
        }
    }
}
