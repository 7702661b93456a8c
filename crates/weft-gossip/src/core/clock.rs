//! Lamport time.

/// Times above this are refused: a clock that follows one could not move on (serf's clocks have the same weakness).
const LARGEST: u64 = 1 << 62;

/// A Lamport clock. Never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lamport(u64);

impl Lamport {
    pub(super) fn starting_at(time: u64) -> Self {
        // Never overflows, since nothing ever adds more than one per event.
        Self(time.min(2 * LARGEST))
    }

    pub(super) fn time(self) -> u64 {
        self.0
    }

    /// The time of a new event of this node.
    pub(super) fn increment(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    /// Takes notice of another node's time; false if that time cannot be right.
    pub(super) fn witness(&mut self, seen: u64) -> bool {
        if seen > LARGEST {
            return false;
        }
        if seen >= self.0 {
            self.0 = seen + 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witnessing_moves_past_what_was_seen_and_never_back() {
        let mut clock = Lamport::default();
        assert!(clock.witness(0));
        assert_eq!(clock.time(), 1);
        assert!(clock.witness(41));
        assert_eq!(clock.increment(), 43);
        assert!(clock.witness(7));
        assert_eq!(clock.time(), 43);
        assert!(!clock.witness(u64::MAX));
        assert_eq!(clock.time(), 43);
    }
}
