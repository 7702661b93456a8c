//! A quick hash for short names.

use std::hash::{BuildHasherDefault, Hasher};

/// Same order of iteration in every run, so that a simulation can be repeated from its seed. Names come from
/// authenticated members, who gain nothing by collisions.
pub(super) type FixedHasher = BuildHasherDefault<NameHasher>;

/// Multiply and rotate, eight bytes at a time, as rustc's own tables do.
#[derive(Default)]
pub(super) struct NameHasher(u64);

const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

impl NameHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn finish(&self) -> u64 {
        // Tables take the low bits, which a multiplication mixes least.
        self.0.rotate_left(26)
    }
}
