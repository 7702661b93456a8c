//! Which sequence numbers, and which initialisation vectors, of a key are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Exhausted;

/// A new key is asked for with this many sequence numbers left: at ten million packets a second, half a minute.
const LOW_WATER: u64 = 300_000_000;
const LAST: u64 = u32::MAX as u64;

/// Gives each number of one key once. Clones go on together: they may outlive the key, for when it comes back.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    /// Initialisation vector of the packet with sequence number 1; the others follow, modulo 2^64.
    first_iv: u64,
    /// The last sequence number given out.
    last: Arc<AtomicU64>,
}

/// What makes a packet unlike all others of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) sequence: u32,
    pub(crate) iv: [u8; 8],
}

impl Numbers {
    pub(crate) fn new(first_iv: u64) -> Self {
        Self { first_iv, last: Arc::default() }
    }

    pub(crate) fn next(&self) -> Result<Number, Exhausted> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let Ok(sequence) = u32::try_from(number) else {
            // So that it cannot wrap however often it is tried.
            self.last.store(LAST, Ordering::Relaxed);
            return Err(Exhausted);
        };
        Ok(Number { sequence, iv: self.first_iv.wrapping_add(number - 1).to_be_bytes() })
    }

    /// So many were given out, by somebody else.
    pub(crate) fn note_used(&self, last: u64) {
        self.last.fetch_max(last.min(LAST), Ordering::Relaxed);
    }

    pub(crate) fn is_low(&self) -> bool {
        self.last.load(Ordering::Relaxed) >= LAST - LOW_WATER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_comes_once_and_clones_go_on_together() {
        let numbers = Numbers::new(u64::MAX);
        let iv = |iv: u64| iv.to_be_bytes();
        assert_eq!(numbers.next(), Ok(Number { sequence: 1, iv: iv(u64::MAX) }));
        assert_eq!(numbers.clone().next(), Ok(Number { sequence: 2, iv: iv(0) }));
        assert_eq!(numbers.next(), Ok(Number { sequence: 3, iv: iv(1) }));
    }

    #[test]
    fn they_end_and_never_begin_anew() {
        let numbers = Numbers::new(1);
        assert!(!numbers.is_low());
        numbers.note_used(LAST - 1);
        numbers.note_used(7);
        assert!(numbers.is_low());
        assert_eq!(numbers.next(), Ok(Number { sequence: u32::MAX, iv: LAST.to_be_bytes() }));
        for _ in 0..3 {
            assert_eq!(numbers.next(), Err(Exhausted));
        }
        numbers.note_used(u64::MAX);
        assert_eq!(numbers.next(), Err(Exhausted));
    }
}
