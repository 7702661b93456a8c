//! How often a helper must not answer until its node counts as dead.
//!
//! Invariant: one answer, and everything counts anew. A refusal is the host's own word that no process is left;
//! silence may be lost packets, so it takes more of it, and none of it counts while heartbeats come in time.

use std::time::Duration;

use tokio::time::Instant;

use crate::liveness::Answer;

/// A helper that is being replaced refuses once.
const REFUSALS: u32 = 2;
/// See [`crate::liveness`]: with half of all packets lost, all of them fail once in a million times.
const SILENCES: u32 = 3;
/// Between two probes of which the first was not answered.
const AGAIN: Duration = Duration::from_millis(400);
/// Between two probes of which the first was answered.
const CALM: Duration = Duration::from_secs(1);

/// What speaks against one node.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    since: Option<Instant>,
    refused: u32,
    silent: u32,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Probe { after: Duration },
    Dead,
}

impl Suspicion {
    /// Since when the node is under suspicion without interruption.
    pub(super) fn since(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now)
    }

    /// Whether nothing spoke against the node so far.
    pub(super) fn is_first(&self) -> bool {
        self.silent == 0
    }

    /// Takes what a probe found. `late`: heartbeats are overdue, it is not only the session that broke.
    pub(super) fn note(&mut self, answer: Answer, late: bool) -> Next {
        match answer {
            Answer::Accepted => {
                (self.refused, self.silent) = (0, 0);
                return Next::Probe { after: CALM };
            }
            Answer::Refused => {
                self.refused += 1;
                self.silent += 1;
            }
            Answer::Silent => {
                self.refused = 0;
                self.silent += 1;
            }
        }
        if self.refused >= REFUSALS || (late && self.silent >= SILENCES) {
            return Next::Dead;
        }
        Next::Probe { after: AGAIN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(answers: &[Answer], late: bool) -> Next {
        let mut suspicion = Suspicion::default();
        answers.iter().map(|answer| suspicion.note(*answer, late)).last().unwrap()
    }

    #[test]
    fn one_answer_makes_good_what_went_before() {
        use Answer::{Accepted, Refused, Silent};
        assert_eq!(after(&[Refused, Refused], false), Next::Dead);
        assert_eq!(after(&[Refused, Accepted, Refused], true), Next::Probe { after: AGAIN });
        assert_eq!(after(&[Refused, Silent, Refused], false), Next::Probe { after: AGAIN });
        assert_eq!(after(&[Silent, Silent, Silent], true), Next::Dead);
        assert_eq!(after(&[Silent; 9], false), Next::Probe { after: AGAIN });
        assert_eq!(after(&[Silent, Silent, Accepted], true), Next::Probe { after: CALM });
    }
}
