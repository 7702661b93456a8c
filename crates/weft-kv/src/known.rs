//! What a watch has told so far, and what is new in what the store says now.

use std::collections::BTreeMap;

use crate::{Change, Entry};

/// The entries of a folder by their keys.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<String, Entry>);

impl Known {
    /// These are all the entries there are now. What was known and is not among them is gone.
    pub(crate) fn replace(&mut self, now: Vec<Entry>) -> Vec<Change> {
        let mut old = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for entry in now {
            // A store that lost its data counts anew: versions alone do not show that two entries are one.
            if old.remove(&entry.key).as_ref() != Some(&entry) {
                changes.push(Change::Put(entry.clone()));
            }
            self.0.insert(entry.key.clone(), entry);
        }
        changes.extend(old.into_keys().map(Change::Removed));
        changes
    }

    /// These happened, in this order. What changes nothing is left out.
    pub(crate) fn follow(&mut self, events: Vec<Change>) -> Vec<Change> {
        events.into_iter().filter(|event| self.apply(event)).collect()
    }

    fn apply(&mut self, event: &Change) -> bool {
        match event {
            Change::Put(entry) => self.0.insert(entry.key.clone(), entry.clone()).as_ref() != Some(entry),
            Change::Removed(key) => self.0.remove(key).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Version;

    fn entry(key: &str, value: &str, version: u64) -> Entry {
        Entry { key: key.to_owned(), value: value.into(), version: Version(version) }
    }

    #[test]
    fn a_second_look_tells_only_what_is_different() {
        let mut known = Known::default();
        let (a, b, c) = (entry("a", "1", 1), entry("b", "1", 2), entry("c", "1", 3));
        assert_eq!(
            known.replace(vec![a.clone(), b.clone()]),
            [Change::Put(a.clone()), Change::Put(b)],
            "the first tells everything"
        );
        assert_eq!(
            known.replace(vec![a.clone(), c.clone()]),
            [Change::Put(c.clone()), Change::Removed("b".to_owned())]
        );
        assert_eq!(known.replace(vec![a.clone(), c]), []);
        let again = entry("a", "2", 1);
        assert_eq!(
            known.replace(vec![again.clone()]),
            [Change::Put(again), Change::Removed("c".to_owned())],
            "the same version of a store that began anew"
        );
    }

    #[test]
    fn events_that_say_nothing_new_are_left_out() {
        let mut known = Known::default();
        let put = Change::Put(entry("a", "1", 1));
        assert_eq!(known.follow(vec![put.clone(), put.clone()]), [put]);
        let gone = Change::Removed("a".to_owned());
        assert_eq!(known.follow(vec![gone.clone(), gone.clone()]), [gone]);
    }

    fn states() -> impl Strategy<Value = Vec<BTreeMap<String, Entry>>> {
        let state = proptest::collection::btree_map("[a-d]", (0..3u64, "[x-z]"), 0..4).prop_map(|map| {
            let entry = |(key, (version, value)): (String, (u64, String))| {
                (key.clone(), entry(&key, &value, version))
            };
            map.into_iter().map(entry).collect::<BTreeMap<_, _>>()
        });
        proptest::collection::vec(state, 0..6)
    }

    proptest! {
        /// Whoever carries out all changes has what the store has.
        #[test]
        fn changes_lead_from_each_state_to_the_next(states in states()) {
            let (mut known, mut copy) = (Known::default(), BTreeMap::new());
            for state in states {
                for change in known.replace(state.values().cloned().collect()) {
                    match change {
                        Change::Put(entry) => drop(copy.insert(entry.key.clone(), entry)),
                        Change::Removed(key) => prop_assert!(copy.remove(&key).is_some()),
                    }
                }
                prop_assert_eq!(&copy, &state);
            }
        }
    }
}
