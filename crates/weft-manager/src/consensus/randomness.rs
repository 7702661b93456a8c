//! Random numbers of the group: ids, and how long a member waits before it stands for election.
//!
//! They come from the system, except in a simulation, which needs the same ones again for the same seed. openraft asks
//! by a function without a subject, so a simulation sets the seed per thread: it runs in one.

use rand::RngCore as _;

/// The next number.
pub(crate) fn number() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(number) = seeded::next() {
        return number;
    }
    rand::rng().next_u64()
}

#[cfg(feature = "simulation")]
pub(crate) use seeded::seed;

#[cfg(feature = "simulation")]
mod seeded {
    use std::cell::RefCell;

    use rand::rngs::StdRng;
    use rand::{RngCore as _, SeedableRng as _};

    thread_local! {
        static SOURCE: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    }

    /// From now on this thread's numbers follow from the seed.
    pub(crate) fn seed(seed: u64) {
        SOURCE.set(Some(StdRng::seed_from_u64(seed)));
    }

    pub(super) fn next() -> Option<u64> {
        SOURCE.with_borrow_mut(|source| source.as_mut().map(|source| source.next_u64()))
    }
}
