//! How long a suspected member has to refute (Lifeguard, "local health aware suspicion", section IV-B).

use std::time::Duration;

use crate::{Text, Tick};

/// A running suspicion. Independent confirmations shorten it from the longest to the least time.
#[derive(Debug, Clone)]
pub(super) struct Suspicion {
    /// Generation of its armed timer.
    pub(super) generation: u64,
    start: Tick,
    least: Duration,
    longest: Duration,
    /// Confirmations that bring the time down to the least.
    wanted: usize,
    /// Who suspects; the first is the one who began.
    from: Vec<Text>,
}

impl Suspicion {
    pub(super) fn new(start: Tick, from: Text, wanted: usize, least: Duration, longest: Duration) -> Self {
        Self { generation: 0, start, least, longest, wanted, from: vec![from] }
    }

    /// When the member counts as dead.
    pub(super) fn deadline(&self) -> Tick {
        if self.wanted == 0 {
            return self.start + self.least;
        }
        let confirmations = (self.from.len() - 1) as f64;
        let share = (confirmations + 1.0).ln() / (self.wanted as f64 + 1.0).ln();
        let seconds =
            self.longest.as_secs_f64() - share * (self.longest.as_secs_f64() - self.least.as_secs_f64());
        let timeout = Duration::from_millis((seconds * 1000.0).max(0.0) as u64);
        self.start + timeout.max(self.least)
    }

    /// When, without all wanted confirmations, the others should be asked again.
    pub(super) fn halfway(&self) -> Tick {
        self.start + self.least
    }

    /// Whether this node is among those who suspect.
    pub(super) fn is_by(&self, node: &Text) -> bool {
        self.from.contains(node)
    }

    /// Takes another node's word; true if it is new and was still wanted.
    pub(super) fn confirm(&mut self, from: &Text) -> bool {
        if self.from.len() > self.wanted || self.from.contains(from) {
            return false;
        }
        self.from.push(from.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_shorten_the_wait_to_the_least() {
        let secs = Duration::from_secs;
        let mut suspicion = Suspicion::new(Tick::ZERO, "a".into(), 2, secs(4), secs(24));
        assert_eq!(suspicion.deadline(), Tick::after(secs(24)));
        assert!(!suspicion.confirm(&"a".into()));
        assert!(suspicion.confirm(&"b".into()));
        let half = suspicion.deadline();
        assert!(half < Tick::after(secs(12)) && half > Tick::after(secs(11)), "{half:?}");
        assert!(suspicion.confirm(&"c".into()));
        assert_eq!(suspicion.deadline(), Tick::after(secs(4)));
        assert!(!suspicion.confirm(&"d".into()));
    }

    #[test]
    fn with_nobody_to_confirm_the_least_time_counts() {
        let suspicion =
            Suspicion::new(Tick::ZERO, "a".into(), 0, Duration::from_secs(4), Duration::from_secs(24));
        assert_eq!(suspicion.deadline(), Tick::after(Duration::from_secs(4)));
    }
}
