//! A map in pieces that are shared between versions: a change copies the pieces it touches, readers keep theirs.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

/// Enough that a piece of a table with 16,000 names has some 60.
const PIECES: usize = 256;

/// See the module. Cloning costs a counter per piece.
#[derive(Debug, Clone)]
pub(super) struct CowMap<K, V> {
    pieces: Vec<Arc<HashMap<K, V>>>,
    hasher: RandomState,
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        // An empty piece takes no memory of its own.
        let empty = Arc::new(HashMap::new());
        Self { pieces: std::iter::repeat_n(empty, PIECES).collect(), hasher: RandomState::new() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> CowMap<K, V> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.pieces[self.index(key)].get(key)
    }

    /// The piece that has the key or would, to change it.
    pub(super) fn piece<Q>(&mut self, key: &Q) -> &mut HashMap<K, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let index = self.index(key);
        Arc::make_mut(&mut self.pieces[index])
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    fn index<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        self.hasher.hash_one(key) as usize % PIECES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_do_not_see_each_others_changes() {
        let mut first: CowMap<String, u32> = CowMap::default();
        for n in 0..1000 {
            first.piece(&format!("n{n}")).insert(format!("n{n}"), n);
        }
        let mut second = first.clone();
        second.piece("n7").remove("n7");
        second.piece("new").insert("new".to_owned(), 1);
        assert_eq!((first.get("n7"), first.get("new"), first.len()), (Some(&7), None, 1000));
        assert_eq!((second.get("n7"), second.get("new"), second.len()), (None, Some(&1), 1000));
        let shared = first.pieces.iter().zip(&second.pieces).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= PIECES - 2);
    }
}
