//! Who may ask another server next: one turn a question, dealt to containers in rotation.
//!
//! Invariant: turns out plus turns free are the number there are; while one is free, nobody waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// A queue of so many is cleared of those that stopped waiting.
const CROWD: usize = 512;

/// See the module.
#[derive(Debug)]
pub(crate) struct Turns {
    inner: Mutex<Inner>,
    count: usize,
    /// Told whenever a turn is given back and nobody waits for it.
    back: Notify,
}

#[derive(Debug)]
struct Inner {
    free: usize,
    /// Containers that wait, in the order in which they are served.
    rotation: VecDeque<u64>,
    waiting: HashMap<u64, VecDeque<oneshot::Sender<Turn>>>,
    next_container: u64,
}

/// The right to ask; goes to the next one when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Option<Arc<Turns>>,
}

impl Turns {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let inner =
            Inner { free: count, rotation: VecDeque::new(), waiting: HashMap::new(), next_container: 0 };
        Arc::new(Self { inner: Mutex::new(inner), count, back: Notify::new() })
    }

    /// Waits until nobody asks.
    pub(crate) async fn all_back(&self) {
        loop {
            let back = self.back.notified();
            if self.lock().free == self.count {
                return;
            }
            back.await;
        }
    }

    /// A container that will ask.
    pub(super) fn container(&self) -> u64 {
        let mut inner = self.lock();
        inner.next_container += 1;
        inner.next_container
    }

    /// Waits for a turn. Whoever stops waiting loses its place.
    pub(super) async fn turn(self: &Arc<Self>, container: u64) -> Option<Turn> {
        let receiver = {
            let mut inner = self.lock();
            if inner.free > 0 {
                inner.free -= 1;
                return Some(Turn { turns: Some(self.clone()) });
            }
            let (sender, receiver) = oneshot::channel();
            let queue = inner.waiting.entry(container).or_default();
            if queue.len() >= CROWD {
                queue.retain(|waiting| !waiting.is_closed());
            }
            queue.push_back(sender);
            if !inner.rotation.contains(&container) {
                inner.rotation.push_back(container);
            }
            receiver
        };
        receiver.await.ok()
    }

    /// The next in rotation.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        while let Some(container) = inner.rotation.pop_front() {
            let Some(queue) = inner.waiting.get_mut(&container) else { continue };
            let mut in_order = std::iter::from_fn(|| queue.pop_front());
            let sender = in_order.find(|waiting| !waiting.is_closed());
            if queue.is_empty() {
                inner.waiting.remove(&container);
            } else {
                inner.rotation.push_back(container);
            }
            if sender.is_some() {
                return sender;
            }
        }
        inner.free += 1;
        drop(guard);
        self.back.notify_waiters();
        None
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else { return };
        // Those that stopped waiting are passed over.
        while let Some(waiting) = turns.next() {
            match waiting.send(Turn { turns: Some(turns.clone()) }) {
                Ok(()) => return,
                Err(mut returned) => returned.turns = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_modest_do_not_wait_for_the_greedy() {
        let turns = Turns::new(1);
        let (greedy, modest) = (turns.container(), turns.container());
        let first = turns.turn(greedy).await.unwrap();
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        let start = |container: u64, name: &'static str| {
            let (turns, done) = (turns.clone(), done.clone());
            tokio::spawn(async move {
                let turn = turns.turn(container).await;
                done.send(name).unwrap();
                drop(turn);
            })
        };
        for _ in 0..10 {
            start(greedy, "greedy");
        }
        let given_up = start(modest, "given up");
        tokio::task::yield_now().await;
        start(modest, "modest");
        tokio::task::yield_now().await;
        given_up.abort();
        let _ = given_up.await;
        drop(first);
        assert_eq!(order.recv().await, Some("greedy"));
        assert_eq!(order.recv().await, Some("modest"));
        for _ in 0..9 {
            assert_eq!(order.recv().await, Some("greedy"));
        }
        // Nothing is lost.
        for _ in 0..3 {
            let turn = turns.turn(modest).await;
            assert!(turn.is_some());
        }
    }
}
