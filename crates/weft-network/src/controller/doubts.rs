//! Questions to the helper's gossip about nodes that may be dead, and its answers.
//!
//! Nobody waits for long: a helper that is away, or does not answer in time, knows nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};
use tokio::time::timeout;

use crate::swarm::GossipWord;

/// A helper that lives answers at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions on their way; more than anybody asks at a time.
const BACKLOG: usize = 64;

/// A question's number and the address that it is about.
type Doubt = (u64, IpAddr);

/// Questions that are open.
pub(super) struct Doubts {
    sent: broadcast::Sender<Doubt>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<GossipWord>>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self { sent: broadcast::channel(BACKLOG).0, open: Mutex::default() }
    }
}

impl Doubts {
    pub(super) async fn ask(&self, address: IpAddr) -> GossipWord {
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut open = self.open();
            open.last += 1;
            let number = open.last;
            open.waiting.insert(number, answer);
            number
        };
        let word = match self.sent.send((number, address)) {
            Ok(_) => timeout(PATIENCE, answered).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        self.open().waiting.remove(&number);
        word.unwrap_or_default()
    }

    pub(super) fn answer(&self, number: u64, word: GossipWord) {
        if let Some(waiting) = self.open().waiting.remove(&number) {
            let _ = waiting.send(word);
        }
    }

    /// The questions from now on: for one connection.
    pub(super) fn follow(&self) -> broadcast::Receiver<Doubt> {
        self.sent.subscribe()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next question; never ends where there is nobody to ask it.
pub(super) async fn next_doubt(doubts: &mut Option<broadcast::Receiver<Doubt>>) -> Doubt {
    loop {
        match doubts {
            Some(following) => match following.recv().await {
                Ok(doubt) => return doubt,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => *doubts = None,
            },
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_come_to_who_asked_and_silence_knows_nothing() {
        let doubts = Arc::new(Doubts::default());
        let (one, two) = (IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::from(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(doubts.ask(one).await, GossipWord::Unknown, "no helper is there");
        let mut following = Some(doubts.follow());
        let asked = doubts.clone();
        let asking = tokio::spawn(async move { tokio::join!(asked.ask(one), asked.ask(two)) });
        let (first, _) = next_doubt(&mut following).await;
        let (second, about) = next_doubt(&mut following).await;
        assert_eq!(about, two);
        doubts.answer(second, GossipWord::Gone);
        doubts.answer(first + 100, GossipWord::Alive);
        assert_eq!(asking.await.unwrap(), (GossipWord::Unknown, GossipWord::Gone));
        assert!(doubts.open().waiting.is_empty());
    }
}
