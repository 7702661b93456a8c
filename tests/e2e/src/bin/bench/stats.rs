//! What a few dozen noisy values say.

/// Which end of the values is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// How much of the values [`best`] takes: what a quiet machine would give.
const BEST: f64 = 0.2;

/// The middle value; the upper one of two.
///
/// # Panics
/// When there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Mean of the best fifth, of one value at least.
///
/// # Panics
/// When there is none.
pub(crate) fn best(values: &[f64], better: Better) -> f64 {
    let mut sorted = sorted(values);
    if better == Better::Higher {
        sorted.reverse();
    }
    let count = ((sorted.len() as f64 * BEST).round() as usize).max(1);
    sorted[..count].iter().sum::<f64>() / count as f64
}

/// Half the distance between the quartiles, as a part of the median.
///
/// # Panics
/// When there is no value.
pub(crate) fn spread(values: &[f64]) -> f64 {
    (quantile(values, 0.75) - quantile(values, 0.25)) / 2.0 / median(values)
}

/// Median of each round's ratio to another's value of the same round: what hits a round hits both.
///
/// # Panics
/// When there is no round.
pub(crate) fn ratio(values: &[f64], other: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(other).map(|(value, other)| value / other).collect();
    median(&ratios)
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let sorted = sorted(values);
    sorted[((sorted.len() as f64 * part) as usize).min(sorted.len() - 1)]
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_best_a_fifth() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0, 10.0, 9.0, 8.0, 7.0, 6.0];
        assert_eq!(median(&values), 6.0);
        assert_eq!(best(&values, Better::Higher), 9.5);
        assert_eq!(best(&values, Better::Lower), 1.5);
        assert_eq!(best(&[7.0], Better::Lower), 7.0);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The second round was disturbed for both.
        assert_eq!(ratio(&[2.0, 20.0, 2.0], &[1.0, 10.0, 1.0]), 2.0);
    }

    #[test]
    fn the_spread_is_half_of_what_the_middle_half_covers() {
        assert_eq!(spread(&[8.0, 9.0, 10.0, 11.0]), 0.1);
        assert_eq!(spread(&[3.0]), 0.0);
    }
}
