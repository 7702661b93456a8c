//! One measurement of all that took part in it, and what it shall be.

use crate::stats::{self, Better};

/// What a goal is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// Ratio to Docker in the same rounds.
    Docker,
    /// Ratio to what no overlay can do better: bare hosts, a pair of veth devices, the way without a virtual IP.
    Limit,
    /// The value itself.
    Nothing,
}

/// A bound for a value or a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What a measurement shall be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Goal {
    pub(crate) against: Against,
    pub(crate) bound: Bound,
    /// Whether it is of the best rounds rather than of the median.
    of_best: bool,
}

/// One that took part.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// One of each round.
    pub(crate) values: Vec<f64>,
    /// Whether the goals are for this one.
    pub(crate) judged: bool,
    /// Which entry of the row is its limit.
    pub(crate) limit: Option<usize>,
}

/// One measurement. Docker's entry, if there is one, is the first.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) goals: Vec<Goal>,
    pub(crate) entries: Vec<Entry>,
    /// Whether the first entry is Docker's.
    pub(crate) beside_docker: bool,
}

/// What came of a goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) goal: Goal,
    pub(crate) value: f64,
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

impl Goal {
    pub(crate) const fn beside_docker(bound: Bound) -> Self {
        Self { against: Against::Docker, bound, of_best: false }
    }

    pub(crate) const fn beside_limit(bound: Bound) -> Self {
        Self { against: Against::Limit, bound, of_best: false }
    }

    pub(crate) const fn alone(bound: Bound) -> Self {
        Self { against: Against::Nothing, bound, of_best: false }
    }

    /// The same for the best rounds.
    pub(crate) fn of_best(self) -> Self {
        Self { of_best: true, ..self }
    }
}

impl Verdict {
    pub(crate) fn is_met(&self) -> bool {
        self.goal.bound.holds(self.value)
    }
}

impl Row {
    /// Ratio of an entry to Docker's, if there is one; of medians of rounds, or of the best rounds.
    pub(crate) fn to_docker(&self, entry: &Entry, of_best: bool) -> Option<f64> {
        let docker = self.entries.first().filter(|_| self.beside_docker)?;
        (!std::ptr::eq(docker, entry)).then(|| self.compare(entry, docker, of_best))
    }

    /// Ratio of an entry to its limit, if it has one.
    pub(crate) fn to_limit(&self, entry: &Entry, of_best: bool) -> Option<f64> {
        Some(self.compare(entry, self.entries.get(entry.limit?)?, of_best))
    }

    /// What came of the goals for an entry.
    pub(crate) fn verdicts(&self, entry: &Entry) -> Vec<Verdict> {
        let value = |goal: &Goal| match goal.against {
            Against::Docker => self.to_docker(entry, goal.of_best),
            Against::Limit => self.to_limit(entry, goal.of_best),
            Against::Nothing if goal.of_best => Some(stats::best(&entry.values, self.better)),
            Against::Nothing => Some(stats::median(&entry.values)),
        };
        let goals = self.goals.iter().filter(|_| entry.judged);
        goals.filter_map(|goal| Some(Verdict { goal: *goal, value: value(goal)? })).collect()
    }

    fn compare(&self, entry: &Entry, other: &Entry, of_best: bool) -> f64 {
        if of_best {
            stats::best(&entry.values, self.better) / stats::best(&other.values, self.better)
        } else {
            stats::ratio(&entry.values, &other.values)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Docker 10, Weft 13, bare hosts 20; every second round is disturbed.
    pub(crate) fn sample() -> Row {
        let entry = |name: &str, value: f64, judged, limit| Entry {
            name: name.to_owned(),
            values: vec![value, value / 2.0, value],
            judged,
            limit,
        };
        Row {
            title: "TCP".to_owned(),
            unit: "Gb/s",
            better: Better::Higher,
            goals: vec![
                Goal::beside_docker(Bound::AtLeast(1.25)),
                Goal::beside_limit(Bound::AtLeast(0.82)).of_best(),
            ],
            entries: vec![
                entry("Docker", 10.0, false, None),
                entry("Weft", 13.0, true, Some(2)),
                entry("bare hosts", 20.0, false, None),
            ],
            beside_docker: true,
        }
    }

    #[test]
    fn goals_are_for_who_is_judged() {
        let row = sample();
        let verdicts = row.verdicts(&row.entries[1]);
        assert_eq!(verdicts.iter().map(|verdict| verdict.value).collect::<Vec<_>>(), [1.3, 0.65]);
        assert_eq!(verdicts.iter().map(Verdict::is_met).collect::<Vec<_>>(), [true, false]);
        assert!(row.verdicts(&row.entries[0]).is_empty());
        assert!(row.verdicts(&row.entries[2]).is_empty());
    }

    #[test]
    fn docker_is_not_compared_with_itself() {
        let row = sample();
        assert_eq!(row.to_docker(&row.entries[0], false), None);
        assert_eq!(row.to_docker(&row.entries[2], false), Some(2.0));
        assert_eq!(row.to_limit(&row.entries[0], false), None);
    }

    #[test]
    fn a_goal_of_the_value_needs_nobody_else() {
        let mut row = sample();
        row.goals = vec![Goal::alone(Bound::AtMost(12.0))];
        row.entries = vec![row.entries.swap_remove(1)];
        row.beside_docker = false;
        let verdicts = row.verdicts(&row.entries[0]);
        assert_eq!((verdicts[0].value, verdicts[0].is_met()), (13.0, false));
        assert_eq!(verdicts[0].goal.bound.to_string(), "≤ 12");
    }
}
