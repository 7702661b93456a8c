//! How connections spread over backends with a number of rules that does not depend on them.
//!
//! One chain for each number of slots; a port's connections go to the chain whose number fits the count of its
//! backends, draw a slot there, and port and slot name the backend in one map. Up to [`EXACT`] backends there is a
//! chain with just as many slots, so the spread is even; above it slots are shared out in turn.

use crate::mark::INGRESS_BIT;

/// Up to so many backends each has exactly one slot.
const EXACT: u16 = 16;
/// Slots for more: with 64 backends each has 4.
const MANY: u16 = 256;
const VERY_MANY: u16 = 4096;
/// So many backends share [`MANY`] slots at most.
const MANY_UP_TO: usize = 64;

/// All numbers of slots that have a chain.
pub(super) fn classes() -> impl Iterator<Item = u16> {
    (1..=EXACT).chain([MANY, VERY_MANY])
}

/// Slots for so many backends; none for none. Beyond the greatest number of slots the backends that are left over wait
/// for others to go.
pub(super) fn slots(backends: usize) -> Option<u16> {
    match backends {
        0 => None,
        n if n <= usize::from(EXACT) => u16::try_from(n).ok(),
        n if n <= MANY_UP_TO => Some(MANY),
        _ => Some(VERY_MANY),
    }
}

/// The chain that draws one of so many slots.
pub(super) fn chain(slots: u16) -> String {
    format!("spread{slots}")
}

/// A slot as the packet mark that the draw leaves: with the bit that says "by a published port" already in it.
pub(super) fn mark(slot: u16) -> u32 {
    INGRESS_BIT | u32::from(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_fit_the_backends() {
        assert_eq!(slots(0), None);
        for backends in 1..=1000 {
            let slots = slots(backends).unwrap();
            assert!(usize::from(slots) >= backends);
            assert!(classes().any(|class| class == slots), "{slots}");
            // The busiest backend has at most a quarter more slots than the least busy one would have on average.
            let (most, fair) =
                (usize::from(slots).div_ceil(backends), usize::from(slots) as f64 / backends as f64);
            assert!(most as f64 <= fair * 1.25, "{backends} backends, {slots} slots");
        }
    }
}
