//! Virtual time.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: microseconds since a start that the driver chooses. Never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The start.
    pub const ZERO: Self = Self(0);

    /// The time `since_start` after the start.
    pub fn after(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX))
    }

    /// Time passed since the start.
    pub fn since_start(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// Time passed since `earlier`; zero when that is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Tick {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}
