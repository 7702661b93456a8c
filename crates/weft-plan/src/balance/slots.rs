//! Which task each number stands for.
//!
//! A flow draws a number below the number of slots, and each task has as many slots as it has weight. Numbers have no
//! gaps, so with equal weights a service has exactly one slot a task.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// No service has more; the spread of more tasks, or of weights without a common divisor, is rounded to it.
pub const MAX_SLOTS: usize = 4096;

/// Slots for these tasks by weight, that differ from `before` in as few places as can be.
pub(super) fn assign(before: &[IpAddr], backends: &BTreeMap<IpAddr, u16>) -> Vec<IpAddr> {
    let mut due = shares(backends);
    let total: usize = due.values().sum();
    let mut slots: Vec<Option<IpAddr>> = (0..total)
        .map(|number| {
            let had = before.get(number).copied()?;
            let left = due.get_mut(&had).filter(|left| **left > 0)?;
            *left -= 1;
            Some(had)
        })
        .collect();
    let mut missing = due.into_iter().flat_map(|(ip, left)| std::iter::repeat_n(ip, left));
    for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
        *slot = missing.next();
    }
    slots.into_iter().flatten().collect()
}

/// How many slots each task gets: its weight, in the smallest numbers with that ratio.
fn shares(backends: &BTreeMap<IpAddr, u16>) -> BTreeMap<IpAddr, usize> {
    let weights = backends.iter().filter(|(_, weight)| **weight > 0);
    let divisor = weights.clone().fold(0, |divisor, (_, weight)| gcd(divisor, usize::from(*weight))).max(1);
    let mut shares: BTreeMap<IpAddr, usize> =
        weights.map(|(ip, weight)| (*ip, usize::from(*weight) / divisor)).take(MAX_SLOTS).collect();
    let total: usize = shares.values().sum();
    if total > MAX_SLOTS {
        let spare = MAX_SLOTS - shares.len();
        for share in shares.values_mut() {
            // Each keeps one, and the rest goes by weight, rounded down.
            *share = 1 + *share * spare / total;
        }
    }
    shares
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
