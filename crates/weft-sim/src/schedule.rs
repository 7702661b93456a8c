//! What happens when, in virtual milliseconds.

use std::collections::BTreeMap;

/// Milliseconds that have a place of their own; what is farther away waits in a map.
const RING: u64 = 1 << 16;

/// A calendar of events. Those of one millisecond happen in the order in which they were added.
pub(crate) struct Schedule<T> {
    now: u64,
    ring: Vec<Vec<T>>,
    far: BTreeMap<u64, Vec<T>>,
    /// Events of the present millisecond that are being handed out, last first.
    present: Vec<T>,
}

impl<T> Schedule<T> {
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            ring: std::iter::repeat_with(Vec::new).take(RING as usize).collect(),
            far: BTreeMap::new(),
            present: Vec::new(),
        }
    }

    /// The present, in milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Adds an event; one in the past happens now.
    pub(crate) fn add(&mut self, at: u64, event: T) {
        let at = at.max(self.now);
        if at - self.now < RING {
            self.ring[(at % RING) as usize].push(event);
        } else {
            self.far.entry(at).or_default().push(event);
        }
    }

    /// The next event before `end`; without one, time moves to `end`.
    pub(crate) fn next_before(&mut self, end: u64) -> Option<T> {
        loop {
            if let Some(event) = self.present.pop() {
                return Some(event);
            }
            if self.now >= end {
                return None;
            }
            let place = (self.now % RING) as usize;
            if self.ring[place].is_empty() {
                self.advance();
                continue;
            }
            std::mem::swap(&mut self.present, &mut self.ring[place]);
            self.present.reverse();
        }
    }

    fn advance(&mut self) {
        self.now += 1;
        while let Some(entry) = self.far.first_entry() {
            if *entry.key() - self.now >= RING {
                break;
            }
            let (at, events) = entry.remove_entry();
            // Far events were added before any near one of the same millisecond could be.
            let place = &mut self.ring[(at % RING) as usize];
            let near = std::mem::replace(place, events);
            place.extend(near);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_addition() {
        let mut schedule = Schedule::new();
        for (at, event) in [(5, 'b'), (3, 'a'), (5, 'c'), (200_000, 'z'), (70_000, 'y')] {
            schedule.add(at, event);
        }
        let mut seen = Vec::new();
        while let Some(event) = schedule.next_before(300_000) {
            seen.push((schedule.now(), event));
        }
        assert_eq!(seen, [(3, 'a'), (5, 'b'), (5, 'c'), (70_000, 'y'), (200_000, 'z')]);
        assert_eq!(schedule.now(), 300_000);
    }

    #[test]
    fn an_event_for_now_still_happens() {
        let mut schedule = Schedule::new();
        schedule.add(1, 1);
        assert_eq!(schedule.next_before(10), Some(1));
        schedule.add(0, 2);
        assert_eq!((schedule.next_before(10), schedule.now()), (Some(2), 1));
    }
}
