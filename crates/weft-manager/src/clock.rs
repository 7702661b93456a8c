//! The calendar, for what users read.
//!
//! The system's, except in a simulation, where it goes with virtual time: how long a written time is must not differ
//! from run to run.

use std::time::SystemTime;

/// Now, by this machine.
pub(crate) fn now() -> SystemTime {
    #[cfg(feature = "simulation")]
    if let Some(now) = simulated::now() {
        return now;
    }
    SystemTime::now()
}

#[cfg(feature = "simulation")]
pub(crate) use simulated::begin;

#[cfg(feature = "simulation")]
mod simulated {
    use std::cell::Cell;
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    /// Somewhere in 2026.
    const EPOCH: Duration = Duration::from_secs(1_780_000_000);

    thread_local! {
        static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    /// From now on this thread's calendar goes with tokio's clock.
    pub(crate) fn begin() {
        BEGIN.set(Some(Instant::now()));
    }

    pub(super) fn now() -> Option<SystemTime> {
        BEGIN.get().map(|begin| SystemTime::UNIX_EPOCH + EPOCH + begin.elapsed())
    }
}
