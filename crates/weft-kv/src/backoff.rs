//! How long to wait before the next attempt.

use std::time::Duration;

/// Waits that double, each with a part by chance so that hosts do not come back to a store all at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// From `first` up to `limit`.
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        let first = first.min(limit);
        Self { first, limit, next: first }
    }

    /// The wait after one more failure; `chance` is between 0 and 1.
    pub(crate) fn failed(&mut self, chance: f64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.limit);
        // Between half and all of it.
        wait.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (0..5).map(|_| backoff.failed(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.failed(0.0), Duration::from_millis(500));
        assert_eq!(Backoff::new(Duration::from_secs(9), Duration::from_secs(2)).failed(1.0).as_secs(), 2);
    }
}
