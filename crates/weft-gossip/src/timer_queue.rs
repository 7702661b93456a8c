//! The driver's list of armed timers.

use std::collections::BTreeSet;

use crate::{Tick, Timer};

/// Armed timers in order of time. A convenience for drivers: sleep until [`TimerQueue::next`], then hand each timer of
/// [`TimerQueue::pop_due`] to the state machine. Ask for the next one again after every call to the state machine.
#[derive(Debug, Clone, Default)]
pub struct TimerQueue {
    armed: BTreeSet<(Tick, Timer)>,
}

impl TimerQueue {
    /// Adds a timer.
    pub fn arm(&mut self, timer: Timer, at: Tick) {
        self.armed.insert((at, timer));
    }

    /// When the first timer is due.
    pub fn next(&self) -> Option<Tick> {
        self.armed.first().map(|(at, _)| *at)
    }

    /// Takes the first timer out if it is due at `now`.
    pub fn pop_due(&mut self, now: Tick) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.armed.pop_first().map(|(_, timer)| timer)
    }
}
