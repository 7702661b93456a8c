//! Neighbours' words on a node that fell silent, in memory: whether they reach its helper, and what their gossip says.
//!
//! A manager that cannot reach a node may be the one that is cut off, so others are asked; see [`crate::verdict`] for
//! what follows from their answers.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::IteratorRandom as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use weft_wire::weft_v1::Question;

use crate::verdict::{Testimony, Verdict, weigh};

/// How many are asked: two must answer, and some of them may be about to die themselves.
const ASKED: usize = 4;
/// A neighbour's own probe takes 1.5 s at most.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Nodes that listen, and questions that are open.
#[derive(Default)]
pub(crate) struct Witnesses {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    listeners: HashMap<String, (u64, mpsc::UnboundedSender<Question>)>,
    open: HashMap<u64, mpsc::UnboundedSender<(String, Testimony)>>,
    last_number: u64,
}

/// A node's ear: it no longer counts when this goes.
pub(crate) struct Ear {
    witnesses: Arc<Witnesses>,
    node_id: String,
    number: u64,
    questions: mpsc::UnboundedReceiver<Question>,
}

impl Witnesses {
    pub(crate) fn listen(self: &Arc<Self>, node_id: &str) -> Ear {
        let (sender, questions) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        let number = inner.next_number();
        inner.listeners.insert(node_id.to_owned(), (number, sender));
        Ear { witnesses: Arc::clone(self), node_id: node_id.to_owned(), number, questions }
    }

    /// Takes a node's answer. Late ones and those that were not asked for are passed over.
    pub(crate) fn testify(&self, node_id: &str, number: u64, testimony: Testimony) {
        if let Some(asker) = self.inner().open.get(&number) {
            let _ = asker.send((node_id.to_owned(), testimony));
        }
    }

    /// Lets neighbours look after `node_id` without waiting for what they find: their gossip probes it at once.
    pub(crate) fn alert(&self, node_id: &str, address: SocketAddr) {
        let (number, ..) = self.ask(node_id, address);
        self.inner().open.remove(&number);
    }

    /// What neighbours find of `node_id`, whose helper should be at `address`. `returning`: so many neighbours have not
    /// come back to this manager yet, but are alive. `overdue`: see [`weigh`].
    pub(crate) async fn verdict(
        &self,
        node_id: &str,
        address: SocketAddr,
        returning: usize,
        overdue: bool,
    ) -> Verdict {
        let (number, asked, mut answers) = self.ask(node_id, address);
        let neighbours = asked.len() + returning;
        let mut heard: BTreeMap<String, Testimony> = BTreeMap::new();
        let weighed = |heard: &BTreeMap<String, Testimony>| {
            let testimonies: Vec<Testimony> = heard.values().copied().collect();
            weigh(neighbours, &testimonies, overdue)
        };
        let listening = async {
            while heard.len() < asked.len() && weighed(&heard) == Verdict::Open {
                match answers.recv().await {
                    Some((node, testimony)) if asked.contains(&node) => {
                        heard.insert(node, testimony);
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        };
        // Who has not answered by then does not count.
        let _ = timeout(PATIENCE, listening).await;
        self.inner().open.remove(&number);
        weighed(&heard)
    }

    fn ask(
        &self,
        about: &str,
        address: SocketAddr,
    ) -> (u64, Vec<String>, mpsc::UnboundedReceiver<(String, Testimony)>) {
        let (asker, answers) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        let number = inner.next_number();
        inner.open.insert(number, asker);
        let others = inner.listeners.iter().filter(|(node, _)| *node != about);
        let question = Question { number, address: address.to_string() };
        let asked = others
            .choose_multiple(&mut rand::rng(), ASKED)
            .into_iter()
            .filter(|(_, (_, sender))| sender.send(question.clone()).is_ok())
            .map(|(node, _)| node.clone())
            .collect();
        (number, asked, answers)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Ear {
    pub(crate) async fn next(&mut self) -> Option<Question> {
        self.questions.recv().await
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut inner = self.witnesses.inner();
        if inner.listeners.get(&self.node_id).is_some_and(|(number, _)| *number == self.number) {
            inner.listeners.remove(&self.node_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::GossipWord;

    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7946);

    const GONE: Testimony = Testimony { reached: false, gossip: GossipWord::Gone };
    const SUSPECTED: Testimony = Testimony { reached: false, gossip: GossipWord::Alive };
    const FOUND: Testimony = Testimony { reached: true, gossip: GossipWord::Alive };

    /// A neighbour that always finds the same.
    fn neighbour(witnesses: &Arc<Witnesses>, name: &str, finds: Option<Testimony>) {
        let mut ear = witnesses.listen(name);
        let (witnesses, name) = (Arc::clone(witnesses), name.to_owned());
        tokio::spawn(async move {
            while let Some(question) = ear.next().await {
                if let Some(testimony) = finds {
                    witnesses.testify(&name, question.number, testimony);
                }
            }
        });
    }

    async fn verdict(neighbours: &[Option<Testimony>], returning: usize) -> Verdict {
        let witnesses = Arc::new(Witnesses::default());
        for (number, finds) in neighbours.iter().enumerate() {
            neighbour(&witnesses, &format!("n{number}"), *finds);
        }
        // The suspect's own word does not count.
        neighbour(&witnesses, "suspect", Some(FOUND));
        witnesses.verdict("suspect", ADDRESS, returning, false).await
    }

    #[tokio::test]
    async fn what_neighbours_find_is_weighed() {
        let cases: [(&[Option<Testimony>], usize, Verdict); 8] = [
            (&[Some(GONE), Some(GONE), None], 0, Verdict::Dead),
            (&[Some(GONE)], 0, Verdict::Dead),
            (&[Some(GONE)], 1, Verdict::Open),
            (&[Some(GONE), None], 0, Verdict::Open),
            (&[Some(SUSPECTED), Some(SUSPECTED)], 0, Verdict::Open),
            (&[Some(FOUND), Some(GONE)], 0, Verdict::Lives),
            (&[None, None], 0, Verdict::Open),
            (&[], 0, Verdict::Open),
        ];
        // All at once: some wait for the whole time that neighbours have.
        let found = futures_util::future::join_all(
            cases.iter().map(|(neighbours, returning, _)| verdict(neighbours, *returning)),
        );
        for (found, (neighbours, returning, expected)) in found.await.into_iter().zip(cases) {
            assert_eq!(found, expected, "{neighbours:?}, {returning} returning");
        }
    }
}
