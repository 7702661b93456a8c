//! Whether a node that fell silent is down: the rule, without anything around it.
//!
//! A node is down when its session broke or a heartbeat is late, **and** its member of gossip is dead, **and** two other
//! nodes cannot reach its helper. Any one alone says nothing: a stalled daemon breaks its session, lost packets make
//! gossip and probes err, and a manager that reaches nobody may itself be cut off. The dispatcher sees the first, and
//! asks for the rest only then; what neighbours answer comes here.
//!
//! Where the rule cannot be followed to the letter: of fewer than two neighbours all must miss the node; and where no
//! neighbour's gossip ever knew it, or there is no neighbour, time decides as in SwarmKit.

/// How many neighbours must miss the node.
const NEEDED: usize = 2;

/// What a neighbour's gossip says of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GossipWord {
    /// It knows no such member.
    Unknown,
    /// Alive, or suspected and not yet given up.
    Alive,
    /// Dead, or it said goodbye.
    Gone,
}

/// What one neighbour found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Testimony {
    /// The node's helper accepted its connection.
    pub(crate) reached: bool,
    pub(crate) gossip: GossipWord,
}

/// What follows from what neighbours found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Somebody reached it.
    Lives,
    /// Not enough speaks against it, for now.
    Open,
    Dead,
}

/// Weighs what was heard so far. `neighbours`: nodes that could have been asked, whether or not they answered.
/// `overdue`: heartbeats have been missing for as long as SwarmKit waits.
pub(crate) fn weigh(neighbours: usize, heard: &[Testimony], overdue: bool) -> Verdict {
    if heard.iter().any(|testimony| testimony.reached) {
        return Verdict::Lives;
    }
    let says = |word| heard.iter().any(|testimony| testimony.gossip == word);
    let is_missed = heard.len() >= NEEDED.min(neighbours);
    if is_missed && !says(GossipWord::Alive) && (says(GossipWord::Gone) || overdue) {
        return Verdict::Dead;
    }
    Verdict::Open
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn missed(gossip: GossipWord) -> Testimony {
        Testimony { reached: false, gossip }
    }

    #[test]
    fn the_rule_by_example() {
        use GossipWord::{Alive, Gone, Unknown};
        assert_eq!(weigh(2, &[missed(Gone), missed(Gone)], false), Verdict::Dead);
        assert_eq!(weigh(2, &[missed(Gone), missed(Unknown)], false), Verdict::Dead);
        // Gossip has not given it up.
        assert_eq!(weigh(2, &[missed(Alive), missed(Alive)], true), Verdict::Open);
        assert_eq!(weigh(2, &[missed(Gone), missed(Alive)], true), Verdict::Open);
        // One neighbour is not two, unless there are no more.
        assert_eq!(weigh(2, &[missed(Gone)], true), Verdict::Open);
        assert_eq!(weigh(1, &[missed(Gone)], false), Verdict::Dead);
        // Nobody's gossip knows it, or nobody is there: time decides.
        assert_eq!(weigh(3, &[missed(Unknown), missed(Unknown)], false), Verdict::Open);
        assert_eq!(weigh(3, &[missed(Unknown), missed(Unknown)], true), Verdict::Dead);
        assert_eq!(weigh(0, &[], false), Verdict::Open);
        assert_eq!(weigh(0, &[], true), Verdict::Dead);
        let reached = Testimony { reached: true, gossip: Gone };
        assert_eq!(weigh(3, &[missed(Gone), missed(Gone), reached], true), Verdict::Lives);
    }

    fn testimony() -> impl Strategy<Value = Testimony> {
        let word = prop_oneof![Just(GossipWord::Unknown), Just(GossipWord::Alive), Just(GossipWord::Gone)];
        (any::<bool>(), word).prop_map(|(reached, gossip)| Testimony { reached, gossip })
    }

    proptest! {
        /// Not one of the reasons alone takes a node for dead, whatever else is heard.
        #[test]
        fn no_reason_alone_is_enough(
            heard in proptest::collection::vec(testimony(), 0..6), silent in 0usize..4, overdue: bool,
        ) {
            let neighbours = heard.len() + silent;
            if weigh(neighbours, &heard, overdue) == Verdict::Dead {
                prop_assert!(heard.iter().all(|it| !it.reached && it.gossip != GossipWord::Alive));
                prop_assert!(heard.len() >= 2 || heard.len() == neighbours);
                prop_assert!(overdue || heard.iter().any(|it| it.gossip == GossipWord::Gone));
            }
        }

        /// Neither the order of answers matters, nor does one that speaks for the node do it harm.
        #[test]
        fn words_for_a_node_never_harm_it(
            heard in proptest::collection::vec(testimony(), 0..6), silent in 0usize..4, overdue: bool, word in testimony(),
        ) {
            let verdict = weigh(heard.len() + silent + 1, &heard, overdue);
            let mut more = heard.clone();
            more.insert(0, word);
            let after = weigh(heard.len() + silent + 1, &more, overdue);
            if word.reached {
                prop_assert_eq!(after, Verdict::Lives);
            } else if word.gossip == GossipWord::Alive {
                prop_assert!(after != Verdict::Dead);
            }
            if verdict == Verdict::Lives {
                prop_assert_eq!(after, Verdict::Lives);
            }
            let backwards: Vec<Testimony> = heard.iter().rev().copied().collect();
            prop_assert_eq!(weigh(heard.len() + silent + 1, &backwards, overdue), verdict);
        }

        /// A node of which every process was killed is down once gossip has noticed, however many neighbours there are.
        #[test]
        fn what_is_dead_is_found_out(neighbours in 1usize..6) {
            let heard = vec![missed(GossipWord::Gone); neighbours];
            prop_assert_eq!(weigh(neighbours, &heard, false), Verdict::Dead);
        }
    }
}
