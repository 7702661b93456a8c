//! Neighbours' words on whether a node's helper can be reached, in memory.
//!
//! A manager that cannot reach a node may be the one that is cut off: before the node is taken for dead, two others
//! must have failed to reach it, or all if there are fewer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::IteratorRandom as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use weft_wire::weft_v1::Question;

/// How many must have failed.
const NEEDED: usize = 2;
/// How many are asked: one of them may be about to die itself.
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
    open: HashMap<u64, mpsc::UnboundedSender<(String, bool)>>,
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
    pub(crate) fn testify(&self, node_id: &str, number: u64, accepted: bool) {
        if let Some(asker) = self.inner().open.get(&number) {
            let _ = asker.send((node_id.to_owned(), accepted));
        }
    }

    /// Whether neighbours agree that nobody answers for `node_id` at `address`.
    pub(crate) async fn agree_dead(&self, node_id: &str, address: SocketAddr) -> bool {
        let (number, asked, mut answers) = self.ask(node_id, address);
        let needed = NEEDED.min(asked.len());
        let mut failed = Vec::new();
        let agreed = async {
            while failed.len() < needed {
                match answers.recv().await {
                    Some((_, true)) | None => return false,
                    Some((node, false)) if asked.contains(&node) && !failed.contains(&node) => {
                        failed.push(node)
                    }
                    Some(_) => {}
                }
            }
            true
        };
        let agreed = timeout(PATIENCE, agreed).await;
        self.inner().open.remove(&number);
        agreed.unwrap_or(false)
    }

    fn ask(
        &self,
        about: &str,
        address: SocketAddr,
    ) -> (u64, Vec<String>, mpsc::UnboundedReceiver<(String, bool)>) {
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

    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7946);

    /// A neighbour that always finds the same.
    fn neighbour(witnesses: &Arc<Witnesses>, name: &str, finds: Option<bool>) {
        let mut ear = witnesses.listen(name);
        let (witnesses, name) = (Arc::clone(witnesses), name.to_owned());
        tokio::spawn(async move {
            while let Some(question) = ear.next().await {
                if let Some(accepted) = finds {
                    witnesses.testify(&name, question.number, accepted);
                }
            }
        });
    }

    async fn verdict(neighbours: &[Option<bool>]) -> bool {
        let witnesses = Arc::new(Witnesses::default());
        for (number, finds) in neighbours.iter().enumerate() {
            neighbour(&witnesses, &format!("n{number}"), *finds);
        }
        // The suspect's own word does not count.
        neighbour(&witnesses, "suspect", Some(true));
        witnesses.agree_dead("suspect", ADDRESS).await
    }

    #[tokio::test]
    async fn two_must_have_failed_or_all_there_are() {
        assert!(verdict(&[]).await);
        assert!(verdict(&[Some(false)]).await);
        assert!(verdict(&[Some(false), Some(false), None]).await);
        assert!(!verdict(&[Some(true)]).await);
        assert!(!verdict(&[Some(false), None]).await);
        assert!(!verdict(&[None, None]).await);
    }
}
