//! Whose turn it is with a container's files: two mounts of one upper directory at the same time are nothing the kernel
//! answers for.
//!
//! Copies take turns. A start and a removal let them come to their end for a while; then copies fail, so that nobody
//! waits for a client that does not read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// How long a start or a removal waits for copies that are under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns with the files of one container.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    alone: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Cancelled for the copies that are under way, and for those that stand in line before a start or a removal.
    stop: CancellationToken,
    /// Starts and removals that wait.
    waiting: usize,
}

/// A copy's turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _alone: OwnedMutexGuard<()>,
    /// Once it is cancelled, the copy has to end.
    pub(crate) stop: CancellationToken,
}

/// One that waits. After the last of them, copies may go on as long as they like.
struct Waiting<'a>(&'a Turns);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting -= 1;
        if state.waiting == 0 && state.stop.is_cancelled() {
            state.stop = CancellationToken::new();
        }
    }
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a copy's turn.
    pub(crate) async fn copy(&self) -> Turn {
        let alone = self.alone.clone().lock_owned().await;
        Turn { _alone: alone, stop: self.state().stop.clone() }
    }

    /// Waits until no copy is under way, and ends those that do not end by themselves.
    pub(crate) async fn take(&self) -> OwnedMutexGuard<()> {
        self.take_within(PATIENCE).await
    }

    async fn take_within(&self, patience: Duration) -> OwnedMutexGuard<()> {
        self.state().waiting += 1;
        let _waiting = Waiting(self);
        let alone = self.alone.clone().lock_owned();
        tokio::pin!(alone);
        if let Ok(alone) = tokio::time::timeout(patience, &mut alone).await {
            return alone;
        }
        self.state().stop.cancel();
        alone.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_the_files_ends_copies_and_those_in_line_but_none_after() {
        let turns = Arc::new(Turns::default());
        let first = turns.copy().await;
        assert!(!first.stop.is_cancelled());
        let own = turns.clone();
        let mut in_line = tokio::spawn(async move { own.copy().await });
        tokio::task::yield_now().await;
        let own = turns.clone();
        let taken = tokio::spawn(async move { own.take_within(Duration::from_millis(1)).await });
        first.stop.cancelled().await;
        drop(first);
        let second = (&mut in_line).await.unwrap();
        assert!(second.stop.is_cancelled());
        drop(second);
        drop(taken.await.unwrap());
        assert!(!turns.copy().await.stop.is_cancelled());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        let copy = turns.copy().await;
        let waited = tokio::time::timeout(Duration::from_millis(20), turns.take_within(Duration::ZERO)).await;
        assert!(waited.is_err() && copy.stop.is_cancelled());
        drop(copy);
        assert!(!turns.copy().await.stop.is_cancelled());
    }
}
