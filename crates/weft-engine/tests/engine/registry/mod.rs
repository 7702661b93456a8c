//! Registries to pull from: Debian's, and one of our own that misbehaves on demand.

mod debian;
mod fake;
mod sample;

pub(crate) use debian::DebianRegistry;
pub(crate) use fake::{FakeRegistry, Knobs};
pub(crate) use sample::{SampleImage, digest, index_of};
