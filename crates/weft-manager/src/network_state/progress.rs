//! How far each node is: what its Watch was told, and what of it is programmed. In memory: it begins anew with each
//! Watch, whose first message is whole and is acknowledged again.
//!
//! Invariant: a node that looked up to an index was told everything of its networks that was so by then. So it follows
//! an index on a network once it has acknowledged that index, or the last thing that it was told of that network.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A node's last word on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Raft index.
    pub index: u64,
    /// Why the network is not programmed as of the index; empty: it is.
    pub error: String,
}

/// Where a node stands on a network, as of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has programmed what was so then, or was never told of the network.
    Follows,
    /// Nothing heard yet.
    Silent,
    /// It said that it cannot, and why.
    Fails(String),
}

/// One node's Watch.
#[derive(Debug, Default)]
struct Follower {
    session: String,
    /// All commits up to this index have been looked at for it.
    looked: u64,
    /// Index of the last message about each network.
    told: HashMap<String, u64>,
    /// By network.
    words: HashMap<String, Acknowledged>,
}

impl Follower {
    fn standing(&self, network: &str, index: u64) -> Standing {
        let Some(told) = self.told.get(network) else {
            return if self.looked >= index { Standing::Follows } else { Standing::Silent };
        };
        match self.words.get(network) {
            _ if self.looked < index => Standing::Silent,
            Some(word) if word.index < (*told).min(index) => Standing::Silent,
            Some(word) if word.error.is_empty() => Standing::Follows,
            Some(word) => Standing::Fails(word.error.clone()),
            None => Standing::Silent,
        }
    }
}

/// All nodes.
#[derive(Default)]
pub(crate) struct Progress {
    followers: Mutex<HashMap<String, Follower>>,
    changed: watch::Sender<()>,
}

impl Progress {
    fn followers(&self) -> MutexGuard<'_, HashMap<String, Follower>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, node: &str, change: impl FnOnce(&mut Follower)) {
        change(self.followers().entry(node.to_owned()).or_default());
        self.changed.send_replace(());
    }

    /// A Watch begins: what was said in another one no longer counts.
    pub(crate) fn begin(&self, node: &str, session: &str) {
        self.change(node, |it| *it = Follower { session: session.to_owned(), ..Follower::default() });
    }

    /// A message about these networks is about to go out.
    pub(crate) fn told<'a>(
        &self,
        node: &str,
        session: &str,
        networks: impl Iterator<Item = &'a str>,
        index: u64,
    ) {
        self.change(node, |it| {
            if it.session == session {
                it.told.extend(networks.map(|network| (network.to_owned(), index)));
            }
        });
    }

    /// Everything committed up to this index has been told, if it was any news.
    pub(crate) fn looked(&self, node: &str, session: &str, index: u64) {
        self.change(node, |it| {
            if it.session == session {
                it.looked = it.looked.max(index);
            }
        });
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
        self.change(node, |it| {
            if it.words.get(network).is_none_or(|before| before.index <= word.index) {
                it.words.insert(network.to_owned(), word);
            }
        });
    }

    pub(crate) fn of(&self, node: &str, network: &str) -> Option<Acknowledged> {
        self.followers().get(node)?.words.get(network).cloned()
    }

    /// Where a node stands on a network as of an index; silent without a Watch in this session.
    pub(crate) fn standing(&self, node: &str, session: &str, network: &str, index: u64) -> Standing {
        let followers = self.followers();
        let follower = followers.get(node).filter(|it| it.session == session);
        follower.map_or(Standing::Silent, |it| it.standing(network, index))
    }

    /// Tells whenever anything here changed.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Forgets a removed node.
    pub(crate) fn forget(&self, node: &str) {
        self.followers().remove(node);
        self.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ack(index: u64) -> Acknowledged {
        Acknowledged { index, error: String::new() }
    }

    fn standing(progress: &Progress, index: u64) -> Standing {
        progress.standing("n", "s", "web", index)
    }

    #[test]
    fn a_node_follows_what_it_was_told_and_has_programmed() {
        let progress = Progress::default();
        assert_eq!(standing(&progress, 1), Standing::Silent, "no Watch");
        progress.begin("n", "s");
        progress.told("n", "s", ["web"].into_iter(), 5);
        progress.looked("n", "s", 5);
        assert_eq!(standing(&progress, 5), Standing::Silent);
        progress.acknowledge("n", "web", ack(5));
        assert_eq!(standing(&progress, 5), Standing::Follows);
        assert_eq!(standing(&progress, 7), Standing::Silent, "what came since has not been looked at");
        progress.looked("n", "s", 7);
        assert_eq!(standing(&progress, 7), Standing::Follows, "nothing of it was news");
        progress.told("n", "s", ["web"].into_iter(), 8);
        progress.looked("n", "s", 8);
        assert_eq!(standing(&progress, 7), Standing::Silent, "it may have had what was so at 7 only with 8");
        assert_eq!(standing(&progress, 5), Standing::Follows);
    }

    #[test]
    fn another_session_or_network_says_nothing() {
        let progress = Progress::default();
        progress.begin("n", "s");
        progress.told("n", "s", ["web"].into_iter(), 5);
        progress.looked("n", "s", 5);
        progress.acknowledge("n", "db", ack(5));
        assert_eq!(standing(&progress, 5), Standing::Silent);
        assert_eq!(progress.standing("n", "s", "other", 5), Standing::Follows, "it was never told of it");
        progress.acknowledge("n", "web", ack(5));
        assert_eq!(progress.standing("n", "later", "web", 5), Standing::Silent);
        progress.begin("n", "later");
        progress.looked("n", "s", 9);
        assert_eq!(
            progress.standing("n", "later", "web", 5),
            Standing::Silent,
            "the old Watch speaks no more"
        );
    }

    #[test]
    fn a_failure_is_told_with_its_reason_until_it_is_mended() {
        let progress = Progress::default();
        progress.begin("n", "s");
        progress.told("n", "s", ["web"].into_iter(), 5);
        progress.looked("n", "s", 5);
        progress.acknowledge("n", "web", Acknowledged { index: 5, error: "no VXLAN".into() });
        assert_eq!(standing(&progress, 5), Standing::Fails("no VXLAN".into()));
        progress.acknowledge("n", "web", ack(4));
        assert_eq!(standing(&progress, 5), Standing::Fails("no VXLAN".into()), "an older word");
        progress.acknowledge("n", "web", ack(5));
        assert_eq!(standing(&progress, 5), Standing::Follows);
    }

    proptest! {
        /// A model that keeps every message: a node that counts as following an index has programmed, at least, the
        /// last message that holds anything up to it; and once all is looked at and acknowledged it follows.
        #[test]
        fn who_follows_has_programmed_all_of_it(news in prop::collection::vec((any::<bool>(), any::<bool>()), 1..30)) {
            let progress = Progress::default();
            progress.begin("n", "s");
            let (mut told, mut done) = (Vec::new(), 0);
            for (at, (is_news, acknowledges)) in (1u64..).zip(&news) {
                if *is_news {
                    told.push(at);
                    progress.told("n", "s", ["web"].into_iter(), at);
                }
                progress.looked("n", "s", at);
                if *acknowledges && let Some(last) = told.last() {
                    done = *last;
                    progress.acknowledge("n", "web", ack(done));
                }
                for index in 1..=at {
                    let needed = told.iter().copied().filter(|told| *told <= index).max().unwrap_or(0);
                    if standing(&progress, index) == Standing::Follows {
                        prop_assert!(done >= needed, "index {index}, done {done}, needed {needed}");
                    }
                }
                if done == told.last().copied().unwrap_or(0) {
                    prop_assert_eq!(standing(&progress, at), Standing::Follows);
                }
            }
        }
    }
}
