//! What the network does to messages.

use rand::Rng as _;
use rand::rngs::SmallRng;

/// The present state of the network.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    /// Share of datagrams that are lost.
    pub(crate) loss: f64,
    /// Share of datagrams that arrive twice.
    pub(crate) duplication: f64,
    /// Longest delay in milliseconds; the least is 1.
    pub(crate) delay: u64,
    /// Share of streams that break.
    pub(crate) stream_loss: f64,
    /// Sides of a cut; hosts of different sides do not hear each other.
    sides: Vec<u8>,
    /// Only side 0 is not heard by side 1; the other way works.
    one_way: bool,
}

/// A network in order: a LAN's delays, nothing lost.
const CALM_DELAY: u64 = 3;

impl Faults {
    pub(crate) fn none(hosts: usize) -> Self {
        Self {
            loss: 0.0,
            duplication: 0.0,
            delay: CALM_DELAY,
            stream_loss: 0.0,
            sides: vec![0; hosts],
            one_way: false,
        }
    }

    /// Cuts the network in two.
    pub(crate) fn cut(&mut self, rng: &mut SmallRng, one_way: bool) {
        let share = rng.random_range(0.02..0.5);
        for side in &mut self.sides {
            *side = u8::from(rng.random_bool(share));
        }
        self.one_way = one_way;
    }

    /// Ends the cut.
    pub(crate) fn heal(&mut self) {
        self.sides.fill(0);
    }

    /// Whether what `from` sends cannot reach `to`.
    pub(crate) fn blocks(&self, from: usize, to: usize) -> bool {
        match (self.sides[from], self.sides[to]) {
            (0, 1) => true,
            (1, 0) => !self.one_way,
            _ => false,
        }
    }

    pub(crate) fn delay(&self, rng: &mut SmallRng) -> u64 {
        rng.random_range(1..=self.delay)
    }
}
