//! What the programs' maps hold, byte for byte (`bpf/connect.bpf.c`).

use std::net::Ipv6Addr;

use weft_plan::{ServiceKey, SlotsOf};

/// Raised whenever maps of another build could not be used: it is in the name of their folder.
pub(super) const LAYOUT: u32 = 1;

/// `struct service_key`: the reach in the machine's byte order, the virtual IP as IPv6 or mapped to it.
pub(super) type Service = [u8; 24];
/// `struct slot_key`: the number and the position, in the machine's byte order.
pub(super) type Slot = [u8; 8];
/// `struct address`.
pub(super) type Address = [u8; 16];

/// Indices of `counters`, in the order of `enum counter`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counter {
    Translated,
    Refused,
    Left,
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

pub(super) fn service((reach, vip): ServiceKey) -> Service {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&reach.to_ne_bytes());
    key[8..].copy_from_slice(&vip.octets());
    key
}

pub(super) fn read_service(key: &Service) -> ServiceKey {
    (u64::from_ne_bytes(part(key, 0)), Ipv6Addr::from(part::<16>(key, 8)))
}

pub(super) fn slot((number, at): (u32, u32)) -> Slot {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&number.to_ne_bytes());
    key[4..].copy_from_slice(&at.to_ne_bytes());
    key
}

pub(super) fn read_slot(key: &Slot) -> (u32, u32) {
    (u32::from_ne_bytes(part(key, 0)), u32::from_ne_bytes(part(key, 4)))
}

/// `service`: the number in the upper half of a word, how many slots there are in the lower.
pub(super) fn slots_of(slots: SlotsOf) -> u64 {
    u64::from(slots.number) << 32 | u64::from(slots.count)
}

pub(super) fn read_slots_of(word: u64) -> SlotsOf {
    SlotsOf { number: (word >> 32) as u32, count: word as u32 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(key: [u8; 24], short: [u8; 8], word: u64) {
            prop_assert_eq!(service(read_service(&key)), key);
            prop_assert_eq!(slot(read_slot(&short)), short);
            prop_assert_eq!(slots_of(read_slots_of(word)), word);
        }
    }
}
