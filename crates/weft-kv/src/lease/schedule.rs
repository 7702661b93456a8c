//! When a lease is looked after next, and what is worth telling about it.

use std::time::Duration;

use crate::backoff::Backoff;

const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A store that is back is noticed within this time, however long the heartbeat is.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What came of the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The key is there, under a lease of ours.
    Kept,
    /// The store knows nothing of the lease.
    Forgotten,
    /// It does not answer, or refuses.
    Failed,
}

/// A change that users hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The key was written, or is sure to be there again.
    Kept,
    Failing,
}

/// The state between two attempts.
#[derive(Debug)]
pub(super) struct Schedule {
    heartbeat: Duration,
    backoff: Backoff,
    /// What was told last.
    told: Option<News>,
}

impl Schedule {
    pub(super) fn new(heartbeat: Duration) -> Self {
        let backoff = Backoff::new(FIRST_WAIT.min(heartbeat), LONGEST_WAIT.min(heartbeat));
        Self { heartbeat, backoff, told: None }
    }

    /// How long to wait, and what to tell; `chance` is between 0 and 1.
    pub(super) fn after(&mut self, outcome: Outcome, chance: f64) -> (Duration, Option<News>) {
        match outcome {
            Outcome::Kept => {
                self.backoff.reset();
                (self.heartbeat, self.tell(News::Kept))
            }
            // At once; but a store that forgets at once again is not asked without a pause.
            Outcome::Forgotten if self.told == Some(News::Kept) => {
                self.told = None;
                (Duration::ZERO, None)
            }
            Outcome::Forgotten => (self.backoff.failed(chance), None),
            Outcome::Failed => (self.backoff.failed(chance), self.tell(News::Failing)),
        }
    }

    fn tell(&mut self, news: News) -> Option<News> {
        let is_new = self.told != Some(news);
        self.told = Some(news);
        is_new.then_some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(20);

    #[test]
    fn one_line_for_each_time_that_the_store_is_away() {
        let mut schedule = Schedule::new(HEARTBEAT);
        let mut after = |outcome| schedule.after(outcome, 1.0);
        assert_eq!(after(Outcome::Failed), (Duration::from_secs(1), Some(News::Failing)));
        assert_eq!(after(Outcome::Failed), (Duration::from_secs(2), None));
        assert_eq!(after(Outcome::Kept), (HEARTBEAT, Some(News::Kept)));
        assert_eq!(after(Outcome::Kept), (HEARTBEAT, None));
        assert_eq!(after(Outcome::Failed), (Duration::from_secs(1), Some(News::Failing)));
        assert_eq!(after(Outcome::Forgotten), (Duration::from_secs(2), None));
        assert_eq!(after(Outcome::Kept), (HEARTBEAT, Some(News::Kept)));
    }

    #[test]
    fn what_the_store_forgot_is_made_again_at_once_and_told() {
        let mut schedule = Schedule::new(HEARTBEAT);
        schedule.after(Outcome::Kept, 1.0);
        assert_eq!(schedule.after(Outcome::Forgotten, 1.0), (Duration::ZERO, None));
        assert_eq!(schedule.after(Outcome::Forgotten, 1.0), (Duration::from_secs(1), None), "no busy loop");
        assert_eq!(schedule.after(Outcome::Kept, 1.0), (HEARTBEAT, Some(News::Kept)));
    }

    #[test]
    fn waits_never_exceed_the_heartbeat() {
        let mut schedule = Schedule::new(Duration::from_millis(300));
        for _ in 0..5 {
            assert!(schedule.after(Outcome::Failed, 1.0).0 <= Duration::from_millis(300));
        }
    }
}
