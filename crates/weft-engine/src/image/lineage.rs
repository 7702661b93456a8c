//! Which image was committed from a container of which: an image below others stays until the last of them is gone.

use std::collections::BTreeMap;

use super::store::Store;
use super::{Digest, Inner, Result, State};

/// Parents by child.
pub(super) type Parents = BTreeMap<Digest, Digest>;

impl State {
    /// Whether an image was committed from a container of this one.
    pub(super) fn has_children(&self, id: &Digest) -> bool {
        self.parents.values().any(|parent| parent == id)
    }

    /// Neither named nor below another image.
    pub(super) fn is_dangling(&self, id: &Digest) -> bool {
        self.names.values().all(|named| named != id) && !self.has_children(id)
    }

    /// An image and those below it, uppermost first.
    pub(super) fn lineage(&self, id: &Digest) -> Vec<Digest> {
        let mut line = vec![id.clone()];
        // A damaged file may name a circle.
        while let Some(parent) = line.last().and_then(|last| self.parents.get(last)).cloned()
            && !line.contains(&parent)
        {
            line.push(parent);
        }
        line
    }
}

impl Inner {
    /// Notes the parent of a new image.
    pub(super) fn set_parent(&self, state: &mut State, child: &Digest, parent: &Digest) -> Result<()> {
        if child == parent || !state.images.contains_key(parent) {
            return Ok(());
        }
        let mut parents = state.parents.clone();
        parents.insert(child.clone(), parent.clone());
        self.store.save_parents(&parents)?;
        state.parents = parents;
        Ok(())
    }

    /// Forgets the parent of an image that is about to go.
    pub(super) fn forget_parent(&self, state: &mut State, child: &Digest) -> Result<()> {
        let mut parents = state.parents.clone();
        if parents.remove(child).is_some() {
            self.store.save_parents(&parents)?;
            state.parents = parents;
        }
        Ok(())
    }
}

/// The names of an image's layers that say what lies below them as well (OCI image-spec `config.md`, "ChainID"), lowest
/// first.
pub(super) fn chain_ids(layers: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for layer in layers {
        let id = match chain.last() {
            Some(below) => Digest::of(format!("{below} {layer}").as_bytes()),
            None => layer.clone(),
        };
        chain.push(id);
    }
    chain
}

impl Store {
    /// The parents that were noted, of images that are there.
    pub(super) fn load_parents<T>(&self, images: &BTreeMap<Digest, T>) -> Result<Parents> {
        let mut parents: Parents = self.load_json("parents.json")?;
        parents.retain(|child, parent| images.contains_key(child) && images.contains_key(parent));
        Ok(parents)
    }

    fn save_parents(&self, parents: &Parents) -> Result<()> {
        self.save_json("parents.json", parents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_what_lies_below() {
        let [a, b] = [b"a", b"b"].map(|bytes| Digest::of(bytes));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain, [a.clone(), Digest::of(format!("{a} {b}").as_bytes())]);
        assert!(chain_ids(&[]).is_empty());
    }

    #[test]
    fn a_circle_of_parents_has_an_end() {
        let [a, b] = [b"a", b"b"].map(|bytes| Digest::of(bytes));
        let parents = Parents::from([(a.clone(), b.clone()), (b.clone(), a.clone())]);
        let state = State { parents, ..State::default() };
        assert_eq!(state.lineage(&a), [a.clone(), b]);
        assert!(state.has_children(&a) && !state.is_dangling(&a));
    }
}
