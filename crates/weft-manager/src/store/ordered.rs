//! An ordered map that is cheap to copy and to change after a copy: readers keep whole states while writers go on.
//!
//! Two levels: a list of chunks, each sorted and of at most [`CHUNK`] entries. A copy shares everything; the first
//! change after it copies the list and one chunk. So a change costs the same few microseconds with a hundred entries
//! as with ten thousand, and its copies of the list grow with the number of chunks only.
//!
//! Invariants: chunks are sorted, not empty, and do not overlap; their order is that of their keys.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Entries of a chunk at most. Less copies more chunks for the list, more copies more entries for the chunk.
const CHUNK: usize = 64;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// See the module.
#[derive(Clone)]
pub(super) struct Ordered<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
}

/// Entries in order.
pub(super) struct Iter<'a, K, V> {
    entries: std::slice::Iter<'a, (K, V)>,
    chunks: std::slice::Iter<'a, Chunk<K, V>>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.entries.next() {
                return Some((key, value));
            }
            self.entries = self.chunks.next()?.iter();
        }
    }
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self { chunks: Arc::default() }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Ordered<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Ordered<K, V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks) || self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for Ordered<K, V> {}

impl<K, V> Ordered<K, V> {
    pub(super) fn iter(&self) -> Iter<'_, K, V> {
        self.behind(0, 0)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    fn behind(&self, chunk: usize, entry: usize) -> Iter<'_, K, V> {
        let first = self.chunks.get(chunk).map_or(&[][..], |chunk| &chunk[entry..]);
        Iter { entries: first.iter(), chunks: self.chunks.get(chunk + 1..).unwrap_or(&[]).iter() }
    }

    /// The chunk that holds `key` or would, and where in it.
    fn position<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let behind = self.chunks.partition_point(|chunk| chunk[0].0.borrow() <= key);
        let chunk = behind.saturating_sub(1);
        let entries = self.chunks.get(chunk).map_or(&[][..], |chunk| chunk.as_slice());
        (chunk, entries.binary_search_by(|(other, _)| other.borrow().cmp(key)))
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    pub(super) fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (chunk, entry) = self.position(key);
        let (key, value) = &self.chunks.get(chunk)?[entry.ok()?];
        Some((key, value))
    }

    /// All entries from `key` on.
    pub(super) fn from<'a, Q: Ord + ?Sized>(&'a self, key: &Q) -> Iter<'a, K, V>
    where
        K: Borrow<Q>,
    {
        let (chunk, entry) = self.position(key);
        self.behind(chunk, entry.unwrap_or_else(|entry| entry))
    }

    /// The last entry that is not behind `key`.
    pub(super) fn last_until<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (chunk, entry) = self.position(key);
        let entry = match entry {
            Ok(entry) => entry,
            Err(behind) => behind.checked_sub(1)?,
        };
        let (key, value) = &self.chunks.get(chunk)?[entry];
        Some((key, value))
    }
}

impl<K: Ord + Clone, V: Clone> Ordered<K, V> {
    /// Gives the value that was there before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (chunk, entry) = self.position(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(shared) = chunks.get_mut(chunk) else {
            chunks.push(Arc::new(vec![(key, value)]));
            return None;
        };
        let entries = Arc::make_mut(shared);
        match entry {
            Ok(entry) => return Some(std::mem::replace(&mut entries[entry].1, value)),
            Err(entry) => entries.insert(entry, (key, value)),
        }
        if entries.len() > CHUNK {
            let upper = entries.split_off(CHUNK / 2);
            chunks.insert(chunk + 1, Arc::new(upper));
        }
        None
    }

    /// Gives the value that was there.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (chunk, entry) = self.position(key);
        let entry = entry.ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let entries = Arc::make_mut(&mut chunks[chunk]);
        let (_, value) = entries.remove(entry);
        let left = entries.len();
        if left == 0 {
            chunks.remove(chunk);
        } else if chunk > 0 && left + chunks[chunk - 1].len() <= CHUNK / 2 {
            // Chunks that emptied do not stay as many as there were.
            let upper = chunks.remove(chunk);
            Arc::make_mut(&mut chunks[chunk - 1]).extend(upper.iter().cloned());
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u16, u8),
        Remove(u16),
        Copy,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..400_u16, any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            5 => (0..400_u16).prop_map(Step::Remove),
            1 => Just(Step::Copy),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec(step(), 0..1500), probe in 0..400_u16) {
            let mut ours: Ordered<u16, u8> = Ordered::default();
            let mut model: BTreeMap<u16, u8> = BTreeMap::new();
            let mut copies = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        prop_assert_eq!(ours.insert(key, value), model.insert(key, value));
                    }
                    Step::Remove(key) => prop_assert_eq!(ours.remove(&key), model.remove(&key)),
                    Step::Copy => copies.push((ours.clone(), model.clone())),
                }
            }
            copies.push((ours, model));
            for (ours, model) in &copies {
                prop_assert!(ours.iter().eq(model.iter()));
                prop_assert!(ours.from(&probe).eq(model.range(probe..)));
                prop_assert_eq!(ours.get(&probe), model.get(&probe));
                prop_assert_eq!(ours.last_until(&probe), model.range(..=probe).next_back());
                prop_assert!(ours.chunks.iter().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
            }
        }
    }

    #[test]
    fn a_change_copies_one_chunk() {
        let mut map: Ordered<u32, u32> = (0..10_000).fold(Ordered::default(), |mut map, n| {
            map.insert(n, n);
            map
        });
        let before = map.clone();
        map.insert(5000, 1);
        let shared =
            map.chunks.iter().filter(|chunk| before.chunks.iter().any(|other| Arc::ptr_eq(chunk, other)));
        assert_eq!(shared.count(), map.chunks.len() - 1);
        assert_eq!((before.get(&5000), map.get(&5000)), (Some(&5000), Some(&1)));
    }
}
