//! How a thread of packets waits for more: asleep, but awake where small ones follow one another closely. Waking a thread
//! takes several times what a packet does, most of all in virtual machines: that is most of the time that a question and
//! its answer take. Under load nobody waits awake: there the time is better spent on packets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Packets that follow each other within this time are waited for awake.
const CLOSE: Duration = Duration::from_micros(500);
/// For so long.
const AWAKE: Duration = Duration::from_micros(150);
/// When others ran for so long after the CPU was offered to them, they get it.
const WANTED: Duration = Duration::from_micros(30);
/// So many bytes that come at once are load, and nobody waits awake for a while.
const LOAD: usize = 16 << 10;
const LOADED: Duration = Duration::from_millis(10);

/// When there last was load, as all threads of an engine know it.
#[derive(Debug, Default)]
pub(super) struct Load(AtomicU64);

impl Load {
    fn note(&self, now: Duration) {
        self.0.store(now.as_micros() as u64, Ordering::Relaxed);
    }

    fn is_on(&self, now: Duration) -> bool {
        now.saturating_sub(Duration::from_micros(self.0.load(Ordering::Relaxed))) < LOADED
    }
}

/// See the module.
pub(super) struct Pace<'a> {
    begin: Instant,
    rhythm: Rhythm<'a>,
}

impl<'a> Pace<'a> {
    /// `begin` is when the engine's clock was zero.
    pub(super) fn new(load: &'a Load, begin: Instant) -> Self {
        Self { begin, rhythm: Rhythm { load, came: begin.elapsed(), awake: false } }
    }

    /// So many bytes came.
    pub(super) fn note(&mut self, bytes: usize) {
        self.rhythm.note(self.begin.elapsed(), bytes);
    }

    /// Waits until something may have come, or `limit_ms` are over. `look` does so for as many milliseconds at most.
    pub(super) fn wait<R>(&mut self, limit_ms: u16, look: impl FnOnce(u16) -> R) -> R {
        if !self.rhythm.awake {
            return look(limit_ms);
        }
        let before = self.begin.elapsed();
        std::thread::yield_now();
        self.rhythm.offered(before, self.begin.elapsed());
        look(0)
    }
}

/// When to be awake, given the time.
struct Rhythm<'a> {
    load: &'a Load,
    came: Duration,
    awake: bool,
}

impl Rhythm<'_> {
    fn note(&mut self, now: Duration, bytes: usize) {
        if bytes >= LOAD {
            self.load.note(now);
        }
        self.awake = now.saturating_sub(self.came) < CLOSE && !self.load.is_on(now);
        self.came = now;
    }

    /// The CPU was offered to others, who had it until `after`.
    fn offered(&mut self, before: Duration, after: Duration) {
        self.awake = after.saturating_sub(before) < WANTED && before.saturating_sub(self.came) < AWAKE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    fn rhythm(load: &Load) -> Rhythm<'_> {
        Rhythm { load, came: us(20_000), awake: false }
    }

    #[test]
    fn packets_close_to_one_another_are_waited_for_awake_but_not_for_long() {
        let load = Load::default();
        let mut rhythm = rhythm(&load);
        rhythm.note(us(20_600), 100);
        assert!(!rhythm.awake, "far from the one before");
        rhythm.note(us(21_000), 100);
        assert!(rhythm.awake);
        rhythm.offered(us(21_140), us(21_141));
        assert!(rhythm.awake);
        rhythm.offered(us(21_150), us(21_151));
        assert!(!rhythm.awake, "nothing came");
    }

    #[test]
    fn whoever_wants_the_cpu_gets_it() {
        let load = Load::default();
        let mut rhythm = rhythm(&load);
        rhythm.note(us(20_100), 100);
        rhythm.offered(us(20_101), us(20_131));
        assert!(!rhythm.awake);
    }

    #[test]
    fn under_load_no_thread_waits_awake() {
        let load = Load::default();
        let (mut bulk, mut answers) = (rhythm(&load), rhythm(&load));
        bulk.note(us(20_100), LOAD);
        answers.note(us(20_110), 60);
        assert!(!bulk.awake && !answers.awake);
        answers.note(us(30_090), 60);
        answers.note(us(30_100), 60);
        assert!(answers.awake, "it is over");
    }
}
