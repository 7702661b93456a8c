//! Pauses between attempts to reach a manager.

use std::time::Duration;

/// SwarmKit's agent: 100 ms plus twice the pause before, at most 8 s, then a random part of it.
const STEP: Duration = Duration::from_millis(100);
const CEILING: Duration = Duration::from_secs(8);

/// Grows with each failure in a row. Knows no clock and no randomness.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    limit: Duration,
}

impl Backoff {
    /// The next pause; `fraction` in 0..1 is the random part.
    pub(crate) fn next(&mut self, fraction: f64) -> Duration {
        self.limit = (STEP + self.limit * 2).min(CEILING);
        self.limit.mul_f64(fraction.clamp(0.0, 1.0))
    }

    /// After a success: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.limit = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_ceiling_and_starts_over() {
        let mut backoff = Backoff::default();
        let limits: Vec<_> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(limits, [100, 300, 700, 1500, 3100, 6300, 8000, 8000]);
        assert_eq!(backoff.next(0.5).as_millis(), 4000);
        backoff.reset();
        assert_eq!(backoff.next(1.0).as_millis(), 100);
    }
}
