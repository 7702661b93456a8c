//! Which of several servers is asked first, and when another one is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Failure;

/// The servers of a store by their places. The one that answered last is preferred.
#[derive(Debug)]
pub(crate) struct Rotation {
    count: usize,
    preferred: AtomicUsize,
}

impl Rotation {
    /// The first of them is preferred until it fails.
    pub(crate) fn new(count: usize) -> Self {
        Self { count, preferred: AtomicUsize::new(0) }
    }

    /// Asks server after server until one answers. `repeatable` says that the request does no harm when done twice.
    pub(crate) async fn ask<T, F>(&self, repeatable: bool, attempt: impl Fn(usize) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut last = Failure::NotSent("it has no servers".to_owned());
        for server in self.order() {
            match attempt(server).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => last = failure,
            }
            if !last.is_answer() {
                self.failed(server);
            }
            if !last.is_for_another(repeatable) {
                break;
            }
        }
        Err(last)
    }

    /// Each server once, the preferred one first.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.preferred.load(Ordering::Relaxed), self.count);
        (0..count).map(move |step| (first + step) % count)
    }

    /// The one after it is preferred, unless another call was quicker to say so.
    fn failed(&self, server: usize) {
        let next = (server + 1) % self.count;
        let _ = self.preferred.compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Asks with these outcomes by server; answers what came of it and who was asked.
    fn ask(
        rotation: &Rotation,
        repeatable: bool,
        outcomes: &[Result<(), Failure>],
    ) -> (Result<(), Failure>, Vec<usize>) {
        let asked = Mutex::new(Vec::new());
        let attempt = |server: usize| {
            asked.lock().unwrap().push(server);
            std::future::ready(outcomes[server].clone())
        };
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let outcome = match std::pin::pin!(rotation.ask(repeatable, attempt)).poll(&mut context) {
            std::task::Poll::Ready(outcome) => outcome,
            std::task::Poll::Pending => unreachable!("all attempts are ready"),
        };
        (outcome, asked.into_inner().unwrap())
    }

    fn away() -> Result<(), Failure> {
        Err(Failure::NotSent("away".to_owned()))
    }

    fn lost() -> Result<(), Failure> {
        Err(Failure::Lost("reset".to_owned()))
    }

    #[test]
    fn who_fails_is_asked_last() {
        let rotation = Rotation::new(3);
        assert_eq!(ask(&rotation, false, &[away(), away(), Ok(())]), (Ok(()), vec![0, 1, 2]));
        assert_eq!(ask(&rotation, false, &[away(), away(), Ok(())]), (Ok(()), vec![2]), "it answered last");
        assert_eq!(ask(&rotation, false, &[away(), away(), away()]), (away(), vec![2, 0, 1]));
        assert_eq!(ask(&rotation, false, &[away(), Ok(()), away()]), (Ok(()), vec![2, 0, 1]));
    }

    #[test]
    fn a_change_whose_answer_was_lost_is_not_made_again() {
        let rotation = Rotation::new(2);
        assert_eq!(ask(&rotation, false, &[lost(), Ok(())]), (lost(), vec![0]));
        assert_eq!(
            ask(&rotation, true, &[lost(), lost()]).1,
            [1, 0],
            "but the other server is asked from now on"
        );
    }

    #[test]
    fn a_no_is_an_answer() {
        let rotation = Rotation::new(2);
        let no = || Err(Failure::Conflict);
        assert_eq!(ask(&rotation, true, &[no(), Ok(())]), (no(), vec![0]));
        assert_eq!(ask(&rotation, true, &[Ok(()), away()]), (Ok(()), vec![0]));
    }
}
