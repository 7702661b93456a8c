//! Stands in for the crate of this name that openraft counts its batches with: this one keeps nothing.
//!
//! Weft does not read these statistics (openraft's feature `runtime-stats` is off), but the published crate fills tables
//! for all widths of buckets as soon as the first histogram is made: 27 MiB of every manager. Here is what openraft calls
//! of it, under the same names. See `docs/dependencies.md`.

use std::fmt;
use std::marker::PhantomData;

/// Takes values and forgets them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty one, as it stays.
    pub fn new() -> Self {
        Self { slots: PhantomData }
    }

    /// Forgets a value.
    pub fn record(&mut self, _value: u64) {}

    /// Forgets a value that came so many times.
    pub fn record_n(&mut self, _value: u64, _times: u64) {}

    /// Nothing was kept.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// Percentiles of no samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the percentile that it is named after")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not kept")
    }
}

/// A drawing of no samples.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty one, as it stays.
    pub fn new() -> Self {
        Self
    }

    /// Nothing to draw.
    #[must_use]
    pub fn add<T>(self, _name: &str, _histogram: Histogram<T>) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not kept")
    }
}
