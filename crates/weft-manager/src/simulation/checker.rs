//! What must hold, whoever says it: one log, one state for each index, answers in an order that time allows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use weft_wire::weft_v1::AppendRequest;

use crate::consensus::{ConsensusError, Machine};
use crate::store::{Refusal, Store, View, networks_of};

/// Term and candidate.
type Term = (u64, u64);

/// Sees everything, and keeps the first rule that was broken.
#[derive(Default)]
pub(super) struct Checker(Mutex<Facts>);

#[derive(Default)]
struct Facts {
    /// What was applied at each index, and whether the store took it.
    applied: BTreeMap<u64, (u64, Option<Refusal>)>,
    /// The store that has applied everything that anybody has.
    reference: Option<Arc<Store>>,
    /// States by the index of the last transaction that took effect.
    states: BTreeMap<u64, Arc<View>>,
    /// What an index and a term name.
    entries: HashMap<(u64, Term), u64>,
    /// Terms that had a leader, each with the member that led.
    leaders: BTreeMap<Term, u64>,
    /// Digests of all that was applied.
    commands: HashSet<u64>,
    /// Commands of which it was said that they changed nothing.
    denied: HashSet<u64>,
    /// The highest index of an answer that was given.
    answered: u64,
    refused: u64,
    broken: Option<String>,
}

/// How far answers had come when a question was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked(u64);

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Facts {
    fn break_rule(&mut self, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(what());
        }
    }
}

impl Checker {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rule was broken.
    pub(super) fn fail(&self, what: impl FnOnce() -> String) {
        self.facts().break_rule(what);
    }

    pub(super) fn broken(&self) -> Option<String> {
        self.facts().broken.clone()
    }

    pub(super) fn commands(&self) -> u64 {
        self.facts().applied.len() as u64
    }

    pub(super) fn refused(&self) -> u64 {
        self.facts().refused
    }

    pub(super) fn terms(&self) -> u64 {
        self.facts().leaders.len() as u64
    }

    /// The state with everything that anybody applied.
    pub(super) fn newest(&self) -> Arc<View> {
        self.facts().states.last_key_value().map(|(_, view)| Arc::clone(view)).unwrap_or_default()
    }

    /// A leader's message, before it is sent.
    pub(super) fn on_append(&self, from: u64, message: &AppendRequest) {
        let mut facts = self.facts();
        let vote = message.vote.unwrap_or_default();
        let leader = *facts.leaders.entry((vote.term, vote.candidate)).or_insert(from);
        if leader != from || vote.candidate != from {
            facts.break_rule(|| format!("term {}: led by {leader:x} and by {from:x}", vote.term));
        }
        for entry in &message.entries {
            let Some((id, body)) = entry.split_at_checked(24) else { continue };
            let mut words = id.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
            let mut next = || words.next().unwrap_or_default();
            let term = (next(), next());
            let index = next();
            let seen = *facts.entries.entry((index, term)).or_insert_with(|| digest(body));
            if seen != digest(body) {
                facts.break_rule(|| format!("entry {index} of term {term:?} is two entries"));
            }
        }
    }

    fn on_applied(&self, host: usize, index: u64, command: &[u8], verdict: &Option<Refusal>) {
        let mut facts = self.facts();
        let command_digest = digest(command);
        if facts.denied.contains(&command_digest) {
            facts.break_rule(|| format!("host {host} applies {index}, which was said to change nothing"));
        }
        match facts.applied.get(&index) {
            Some((first, first_verdict)) => {
                if *first != command_digest {
                    facts.break_rule(|| format!("host {host} applies another command at {index}"));
                } else if first_verdict != verdict {
                    let first_verdict = first_verdict.clone();
                    facts.break_rule(|| {
                        format!("host {host}: verdict on {index}: {verdict:?}, elsewhere {first_verdict:?}")
                    });
                }
            }
            None => {
                if facts.applied.last_key_value().is_some_and(|(last, _)| *last > index) {
                    facts.break_rule(|| format!("host {host} applies {index}, which nobody applied before"));
                }
                facts.applied.insert(index, (command_digest, verdict.clone()));
                facts.commands.insert(command_digest);
                facts.refused += u64::from(verdict.is_some());
                let reference = Arc::clone(facts.reference.get_or_insert_with(Store::new));
                let again = reference.apply(index, command);
                reference.flush();
                let view = reference.view();
                if &again != verdict {
                    facts.break_rule(|| {
                        format!("host {host}: verdict on {index}: {verdict:?}, not {again:?}")
                    });
                }
                if let Some(twice) = twice_held(&view) {
                    facts.break_rule(|| format!("address {twice} has two holders after {index}"));
                }
                facts.states.insert(view.index(), view);
            }
        }
    }

    fn on_state(&self, host: usize, view: &Arc<View>) {
        let index = view.index();
        let mut facts = self.facts();
        let equal = match facts.states.get(&index) {
            Some(state) => state == view,
            None => index == 0,
        };
        if !equal {
            facts.break_rule(|| format!("host {host} has another state at {index}"));
        }
    }

    /// A question is asked now.
    pub(super) fn ask(&self) -> Asked {
        Asked(self.facts().answered)
    }

    /// An answer as of an index is given now. `later`: it is a write, which nobody was told of before it was asked for.
    pub(super) fn answer(&self, host: usize, asked: Asked, index: u64, later: bool) {
        let mut facts = self.facts();
        if index < asked.0 || (later && index == asked.0) {
            facts.break_rule(|| {
                format!("host {host} answers as of {index}, and {} was known when it was asked", asked.0)
            });
        }
        facts.answered = facts.answered.max(index);
    }

    /// A command was answered with an error.
    pub(super) fn on_error(&self, host: usize, command: &[u8], error: &ConsensusError) {
        let mut facts = self.facts();
        if matches!(error, ConsensusError::NotLeader | ConsensusError::NoLeader) {
            let denied = digest(command);
            facts.denied.insert(denied);
            if facts.commands.contains(&denied) {
                facts.break_rule(|| format!("host {host} says that what was applied changed nothing"));
            }
        }
        if let ConsensusError::Stopped(reason) = error {
            facts.break_rule(|| format!("host {host}: raft has stopped: {reason}"));
        }
    }
}

/// An address that two objects have.
fn twice_held(view: &View) -> Option<String> {
    let mut seen = BTreeSet::new();
    for task in view.tasks() {
        for (network, attachment) in networks_of(task).zip(&task.networks) {
            for address in &attachment.addresses {
                if !seen.insert((network, address)) {
                    return Some(format!("{address} of network {network}"));
                }
            }
        }
    }
    None
}

/// A store that shows the checker what it does, for as long as its host lives.
pub(super) struct Observed {
    pub(super) store: Arc<Store>,
    pub(super) host: usize,
    pub(super) dead: CancellationToken,
    pub(super) checker: Arc<Checker>,
}

impl Observed {
    fn show_state(&self) {
        if !self.dead.is_cancelled() {
            self.checker.on_state(self.host, &self.store.view());
        }
    }
}

impl Machine for Observed {
    fn apply(&self, index: u64, command: &[u8]) -> Option<Refusal> {
        let verdict = self.store.apply(index, command);
        if !self.dead.is_cancelled() {
            self.checker.on_applied(self.host, index, command, &verdict);
        }
        verdict
    }

    fn flush(&self) {
        self.store.flush();
        self.show_state();
    }

    fn image(&self) -> Arc<View> {
        self.store.image()
    }

    fn restore(&self, image: Arc<View>) {
        self.store.restore(image);
        self.show_state();
    }
}
