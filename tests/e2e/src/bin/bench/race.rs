//! Bursts over several ways in turn, shuffled: what else the machine does hits all.

use weft_e2e::Dice;

use crate::burst::{Kind, Sample};
use crate::path::Path;

/// Any number will do: the order shall have no pattern.
const SEED: u64 = 9;

/// What came of it: samples of a kind, of a way, in the order of the rounds.
pub(crate) struct Raced {
    kinds: Vec<Kind>,
    /// By kind, by path.
    samples: Vec<Vec<Vec<Sample>>>,
}

/// So many rounds, after one that does not count. In each every kind is measured on every path, one kind after the
/// other, so that what is compared is close together in time.
pub(crate) fn race(paths: &[&Path], kinds: &[Kind], rounds: usize) -> Raced {
    let mut dice = Dice::new(SEED);
    let mut samples = vec![vec![Vec::new(); paths.len()]; kinds.len()];
    let mut order: Vec<usize> = (0..kinds.len()).collect();
    for round in 0..=rounds {
        dice.shuffle(&mut order);
        for kind in &order {
            let heat = heat(paths, kinds[*kind], &mut dice);
            if round > 0 {
                samples[*kind].iter_mut().zip(heat).for_each(|(samples, sample)| samples.push(sample));
            }
        }
    }
    Raced { kinds: kinds.to_vec(), samples }
}

/// One kind on every path, in any order; the best of its tries for each.
fn heat(paths: &[&Path], kind: Kind, dice: &mut Dice) -> Vec<Sample> {
    let mut best: Vec<Option<Sample>> = vec![None; paths.len()];
    let mut order: Vec<usize> = (0..paths.len()).collect();
    for _ in 0..kind.tries() {
        dice.shuffle(&mut order);
        for path in &order {
            let sample = paths[*path].measure(kind);
            if best[*path].is_none_or(|best| best.value < sample.value) {
                best[*path] = Some(sample);
            }
        }
    }
    best.into_iter().flatten().collect()
}

impl Raced {
    /// One part of all samples of a kind on the path of this number.
    ///
    /// # Panics
    /// When the kind or the path took no part.
    pub(crate) fn of(&self, kind: Kind, path: usize, part: fn(&Sample) -> f64) -> Vec<f64> {
        let kind = self.kinds.iter().position(|other| *other == kind).unwrap();
        self.samples[kind][path].iter().map(part).collect()
    }
}
