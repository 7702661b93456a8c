//! Up to which index each node has programmed each network. In memory: a node acknowledges again in each session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A node's last word on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Raft index.
    pub index: u64,
    /// Why the network is not programmed as of the index; empty: it is.
    pub error: String,
}

/// All nodes' words.
#[derive(Default)]
pub(crate) struct Progress {
    /// By node, then network.
    words: Mutex<HashMap<String, HashMap<String, Acknowledged>>>,
}

impl Progress {
    fn words(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Acknowledged>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a node's word, unless it is older than what it said before.
    pub(crate) fn acknowledge(&self, node: &str, network: &str, word: Acknowledged) {
        if !word.error.is_empty() {
            tracing::warn!(
                node,
                network,
                index = word.index,
                error = word.error,
                "a node cannot program a network"
            );
        }
        let mut words = self.words();
        let networks = words.entry(node.to_owned()).or_default();
        if networks.get(network).is_none_or(|before| before.index <= word.index) {
            networks.insert(network.to_owned(), word);
        }
    }

    pub(crate) fn of(&self, node: &str, network: &str) -> Option<Acknowledged> {
        self.words().get(node)?.get(network).cloned()
    }

    /// Forgets a removed node.
    pub(crate) fn forget(&self, node: &str) {
        self.words().remove(node);
    }
}
