//! The names of one network, ready to be asked while they change.
//!
//! A change makes a new version that shares with the old one whatever it does not touch; whoever asks meanwhile sees
//! one of the two, whole. Invariant: a name is in the table exactly while a record carries it.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::resolver::cow::CowMap;
use crate::resolver::names::{NameRecord, NetworkNames, RecordChange};

/// A name that is gone is still known to be the cluster's for one to two of these: clients go on asking.
const GONE_FOR: Duration = Duration::from_secs(1800);
/// So many gone names are kept at most, in each of two halves.
const GONE_MAX: usize = 8192;

/// What a name stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) ips: Vec<IpAddr>,
    /// All of them are services' own addresses.
    pub(super) lasting: bool,
    /// Those that have named ports.
    pub(super) services: Vec<Arc<NameRecord>>,
}

impl Found {
    fn of<'a>(records: impl Iterator<Item = &'a Arc<NameRecord>>) -> Arc<Self> {
        let mut found = Self { lasting: true, ..Self::default() };
        let mut seen = HashSet::new();
        for record in records {
            found.ips.extend(record.ips.iter().filter(|ip| seen.insert(**ip)));
            found.lasting &= record.lasting;
            if !record.ports.is_empty() {
                found.services.push(record.clone());
            }
        }
        Arc::new(found)
    }
}

/// One name.
#[derive(Debug, Clone, Default)]
struct Entry {
    /// All that carry it.
    records: Vec<Arc<NameRecord>>,
    /// Several may share a name: the answer is the union.
    all: Arc<Found>,
    /// The answer for each stack that has something of this name, where others have too.
    own: Vec<(String, Arc<Found>)>,
}

impl Entry {
    fn work_out(&mut self) {
        self.all = Found::of(self.records.iter());
        let stacks: BTreeSet<&String> = self.records.iter().filter_map(|r| r.stack.as_ref()).collect();
        let of = |stack: &String| {
            let own = self.records.iter().filter(|record| record.stack.as_ref() == Some(stack));
            (stack.clone(), Found::of(own))
        };
        self.own = stacks.into_iter().map(of).collect();
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct NameTable {
    /// The network's name as it is shown.
    shown: String,
    /// The same in lower case.
    pub(super) network: String,
    subnets: Vec<IpNet>,
    forward: CowMap<Arc<str>, Arc<Entry>>,
    reverse: CowMap<IpAddr, Vec<Arc<NameRecord>>>,
    /// Names that were here lately, and before.
    gone: [CowMap<Arc<str>, ()>; 2],
    turned: Instant,
}

impl NameTable {
    /// A table of its own.
    pub(crate) fn new(names: &NetworkNames, now: Instant) -> Self {
        let mut table = Self {
            shown: String::new(),
            network: String::new(),
            subnets: Vec::new(),
            forward: CowMap::default(),
            reverse: CowMap::default(),
            gone: [CowMap::default(), CowMap::default()],
            turned: now,
        };
        table.describe(&names.name, &names.subnets);
        table.change(&RecordChange { removed: Vec::new(), added: names.records.clone() }, now);
        table
    }

    /// From now on the network is called so and has these subnets.
    pub(crate) fn describe(&mut self, name: &str, subnets: &[IpNet]) {
        self.shown = name.to_owned();
        self.network = name.to_ascii_lowercase();
        self.subnets = subnets.to_vec();
    }

    /// Takes records away and adds some.
    pub(crate) fn change(&mut self, change: &RecordChange, now: Instant) {
        if now.duration_since(self.turned) > GONE_FOR || self.gone[0].len() >= GONE_MAX {
            self.gone[1] = std::mem::take(&mut self.gone[0]);
            self.turned = now;
        }
        let mut touched = BTreeSet::new();
        for record in &change.removed {
            self.remove(record, &mut touched);
        }
        for record in &change.added {
            self.add(record, &mut touched);
        }
        for name in touched {
            self.finish(&name);
        }
    }

    fn add(&mut self, record: &NameRecord, touched: &mut BTreeSet<Arc<str>>) {
        let record = Arc::new(record.clone());
        for name in lower_names(&record) {
            let name: Arc<str> = name.into();
            let entry = self.forward.piece(&name).entry(name.clone()).or_default();
            Arc::make_mut(entry).records.push(record.clone());
            touched.insert(name);
        }
        for ip in &record.ips {
            self.reverse.piece(ip).entry(*ip).or_default().push(record.clone());
        }
    }

    fn remove(&mut self, record: &NameRecord, touched: &mut BTreeSet<Arc<str>>) {
        let take = |records: &mut Vec<Arc<NameRecord>>| {
            if let Some(at) = records.iter().position(|known| **known == *record) {
                records.remove(at);
            }
        };
        for name in lower_names(record) {
            let Some(entry) = self.forward.piece(name.as_str()).get_mut(name.as_str()) else { continue };
            take(&mut Arc::make_mut(entry).records);
            touched.insert(name.into());
        }
        for ip in &record.ips {
            let piece = self.reverse.piece(ip);
            if let Some(records) = piece.get_mut(ip) {
                take(records);
                if records.is_empty() {
                    piece.remove(ip);
                }
            }
        }
    }

    fn finish(&mut self, name: &Arc<str>) {
        let piece = self.forward.piece(name);
        match piece.get_mut(name) {
            Some(entry) if entry.records.is_empty() => {
                piece.remove(name);
                self.gone[0].piece(name).insert(name.clone(), ());
            }
            Some(entry) => {
                Arc::make_mut(entry).work_out();
                for gone in &mut self.gone {
                    if gone.get(name).is_some() {
                        gone.piece(name).remove(name);
                    }
                }
            }
            None => {}
        }
    }

    /// What a name in lower case stands for.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Found>> {
        self.forward.get(name).map(|entry| &entry.all)
    }

    /// The same within one stack.
    pub(super) fn find_own(&self, name: &str, stack: &str) -> Option<&Arc<Found>> {
        let entry = self.forward.get(name)?;
        entry.own.iter().find(|(of, _)| of == stack).map(|(_, found)| found)
    }

    /// The name of an address, with the network's.
    pub(super) fn name_of(&self, ip: IpAddr) -> Option<String> {
        let records = self.reverse.get(&ip)?;
        let own = records.iter().find_map(|record| record.canonical.as_ref());
        let of_service = || records.iter().find(|record| record.lasting)?.names.first();
        own.or_else(of_service).map(|name| format!("{name}.{}", self.shown))
    }

    /// Whether the address belongs here, with a name or without.
    pub(super) fn covers(&self, ip: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(&ip))
    }

    /// Whether the name is one of this network, or was lately.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.forward.get(name).is_some() || self.gone.iter().any(|gone| gone.get(name).is_some())
    }
}

/// The names of a record in lower case, each once.
fn lower_names(record: &NameRecord) -> BTreeSet<String> {
    record.names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(n: u8, stack: Option<u8>) -> NameRecord {
        NameRecord {
            names: vec![format!("N{}", n % 5), format!("t{n}")],
            canonical: Some(format!("t{n}")),
            ips: vec![IpAddr::from([10, 0, 0, n])],
            stack: stack.map(|stack| format!("s{}", stack % 3)),
            ..NameRecord::default()
        }
    }

    fn table(records: Vec<NameRecord>) -> NameTable {
        let names = NetworkNames { name: "Front".to_owned(), records, ..NetworkNames::default() };
        NameTable::new(&names, Instant::now())
    }

    fn same(a: &NameTable, b: &NameTable) -> bool {
        let sorted = |found: Option<&Arc<Found>>| {
            let mut ips = found.map(|found| found.ips.clone());
            if let Some(ips) = &mut ips {
                ips.sort();
            }
            ips
        };
        let names = (0..5).map(|n| format!("n{n}")).chain((0..=255).map(|n| format!("t{n}")));
        names.into_iter().all(|name| {
            let own = |stack: &str| sorted(a.find_own(&name, stack)) == sorted(b.find_own(&name, stack));
            sorted(a.find(&name)) == sorted(b.find(&name)) && ["s0", "s1", "s2"].into_iter().all(own)
        }) && (0..=255).all(|n| {
            let ip = IpAddr::from([10, 0, 0, n]);
            a.name_of(ip) == b.name_of(ip)
        })
    }

    proptest! {
        #[test]
        fn a_changed_table_is_like_one_made_anew(
            old in proptest::collection::vec((0u8..20, proptest::option::of(0u8..3)), 0..20),
            new in proptest::collection::vec((0u8..20, proptest::option::of(0u8..3)), 0..20)
        ) {
            let records = |of: &[(u8, Option<u8>)]| of.iter().map(|(n, s)| record(*n, *s)).collect::<Vec<_>>();
            let (old, new) = (records(&old), records(&new));
            let mut changed = table(old.clone());
            let before = changed.clone();
            changed.change(&RecordChange::between(&old, &new), Instant::now());
            prop_assert!(same(&changed, &table(new)));
            prop_assert!(same(&before, &table(old)));
        }
    }

    #[test]
    fn gone_names_are_known_for_a_while() {
        let start = Instant::now();
        let mut table = table(vec![record(1, None)]);
        let gone = RecordChange { removed: vec![record(1, None)], added: Vec::new() };
        table.change(&gone, start);
        assert!(table.find("t1").is_none() && table.knows("t1") && !table.knows("t2"));
        let later = |times: u32| start + GONE_FOR * times + Duration::from_secs(u64::from(times));
        table.change(&RecordChange::default(), later(1));
        assert!(table.knows("t1"));
        table.change(&RecordChange::default(), later(2));
        assert!(!table.knows("t1"));
    }

    #[test]
    fn one_change_among_a_thousand_services_is_quick() {
        let service = |n: u32, task: u32| NameRecord {
            names: vec![
                format!("web{n}.{task}.abcdefghijklmnopqrstuvwxy"),
                format!("{n:06}{task:06}"),
                format!("tasks.web{n}"),
            ],
            canonical: Some(format!("web{n}.{task}")),
            ips: vec![IpAddr::from((0x0a00_0000 + n * 4 + task).to_be_bytes())],
            ..NameRecord::default()
        };
        let records = (0..1000).flat_map(|n| (0..3).map(move |task| service(n, task))).collect();
        let mut table = table(records);
        let reader = table.clone();
        let change = RecordChange { removed: vec![service(7, 1)], added: vec![service(7, 3)] };
        let start = Instant::now();
        table.change(&change, start);
        // Ten times less than the goal, in a build that is not optimised.
        assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
        assert_eq!(reader.find("tasks.web7").unwrap().ips.len(), 3);
        assert_eq!(table.find("tasks.web7").unwrap().ips.len(), 3);
    }
}
