//! A user at one manager: reads, writes, attaches containers and takes them off, by turns.

use std::time::Duration;

use weft_wire::swarmkit::{NetworkAttachmentConfig, Node};

use super::host::{Life, name};
use super::plan::Mistake;
use super::world::World;
use crate::consensus::{Consensus as _, ConsensusError};
use crate::network::{AttachError, Reports, attach, detach};
use crate::store::{Transaction, version_of};

/// The network that containers are put on: so small that its addresses run out.
pub(super) const NETWORK: &str = "narrow";
const LABEL: &str = "register";

/// What a user of one life of a host knows.
pub(super) struct Client<'a> {
    pub(super) world: &'a World,
    pub(super) host: usize,
    pub(super) life: &'a Life,
    pub(super) reports: Reports,
}

impl Client<'_> {
    /// Goes on until the host goes or the disturbances end.
    pub(super) async fn work(&self) {
        while !self.world.rests() {
            tokio::time::sleep(Duration::from_millis(self.world.number(20..500))).await;
            match self.world.number(0..10) {
                0..=2 => drop(self.read().await),
                3..=6 => drop(self.write().await),
                7..=8 => self.attach().await,
                _ => self.detach().await,
            }
        }
    }

    /// Waits for the managers' newest state and looks.
    pub(super) async fn read(&self) -> Result<(), ConsensusError> {
        let asked = self.world.checker.ask();
        if self.world.plan.mistake != Some(Mistake::ReadsWithoutAsking) {
            self.life.core.barrier().await?;
        }
        self.answered();
        self.world.checker.answer(self.host, asked, self.life.core.view().index(), false);
        Ok(())
    }

    /// Replaces a label of some node, unless another one was faster. Says whether it took effect.
    pub(super) async fn write(&self) -> Result<bool, ConsensusError> {
        let core = &self.life.core;
        let asked = self.world.checker.ask();
        let view = core.view();
        let target = name(self.world.number(0..2) as usize);
        let Some(node) = view.node(&target) else { return Ok(false) };
        let mut node = Node::clone(node);
        let spec = node.spec.get_or_insert_default();
        let labels = &mut spec.annotations.get_or_insert_default().labels;
        labels.insert(LABEL.to_owned(), self.world.unique());
        let mut transaction = Transaction::new(self.world.wall_clock(self.host));
        transaction.update(node);
        let command = transaction.encode();
        match core.raft.propose(command.clone()).await {
            Ok(verdict) => {
                self.answered();
                if verdict.refusal.is_some() {
                    return Ok(false);
                }
                if core.view().index() < verdict.index {
                    let index = verdict.index;
                    self.fail(|| format!("was told of {index} and does not see it"));
                }
                self.world.checker.answer(self.host, asked, verdict.index, true);
                Ok(true)
            }
            Err(error) => {
                self.failed(&error);
                self.world.checker.on_error(self.host, &command, &error);
                Err(error)
            }
        }
    }

    async fn attach(&self) {
        let asked = self.world.checker.ask();
        let core = &self.life.core;
        let wanted = NetworkAttachmentConfig { target: NETWORK.to_owned(), ..Default::default() };
        let container = self.world.unique();
        match attach(core, &self.reports, &name(self.host), &wanted, &container).await {
            Ok(id) => {
                self.answered();
                let view = core.view();
                let Some(task) = view.task(id.as_str()) else {
                    return self.fail(|| format!("was told of task {id} and does not see it"));
                };
                self.world.checker.answer(self.host, asked, version_of(task.meta.as_ref()), true);
                self.world.keep(id.as_str());
            }
            Err(AttachError::Consensus(error)) => self.failed(&error),
            // Full, or not known here yet.
            Err(_) => {}
        }
    }

    async fn detach(&self) {
        // From here on nobody may count on it.
        let Some(id) = self.world.let_go() else { return };
        let view = self.life.core.view();
        let Some(node) = view.task(&id).map(|task| task.node_id.clone()) else { return };
        match detach(&self.life.core, &node, &id).await {
            Ok(()) => {
                self.answered();
                if self.life.core.view().task(&id).is_some() {
                    self.fail(|| format!("task {id} was removed and is there"));
                }
            }
            Err(AttachError::Consensus(error)) => self.failed(&error),
            Err(_) => {}
        }
    }

    fn answered(&self) {
        let forwarded = u64::from(!self.life.leads());
        self.world.count(|counts| {
            counts.answered += 1;
            counts.forwarded += forwarded;
        });
    }

    fn failed(&self, error: &ConsensusError) {
        match error {
            ConsensusError::Unconfirmed | ConsensusError::Behind => {
                self.world.count(|counts| counts.unconfirmed += 1);
            }
            ConsensusError::Stopped(reason) => self.fail(|| format!("raft has stopped: {reason}")),
            _ => {}
        }
    }

    fn fail(&self, what: impl FnOnce() -> String) {
        self.world.checker.fail(|| format!("host {}: {}", self.host, what()));
    }
}
