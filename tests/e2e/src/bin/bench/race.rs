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
    let mut of_kinds: Vec<usize> = (0..kinds.len()).collect();
    let mut of_paths: Vec<usize> = (0..paths.len()).collect();
    for round in 0..=rounds {
        dice.shuffle(&mut of_kinds);
        for kind in &of_kinds {
            dice.shuffle(&mut of_paths);
            for path in &of_paths {
                let sample = paths[*path].measure(kinds[*kind]);
                if round > 0 {
                    samples[*kind][*path].push(sample);
                }
            }
        }
    }
    Raced { kinds: kinds.to_vec(), samples }
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
