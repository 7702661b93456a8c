//! Our [`Machine`] as openraft wants it: applied in batches, each visible at once, and written as an image now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, TryStreamExt as _};
use openraft::storage::{EntryResponder, RaftLogStorage as _, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{
    EntryPayload, Membership, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StoredMembership,
};

use super::disk::Disk;
use super::log_store::LogStore;
use super::member::MemberNode;
use super::peers::Peers;
use super::state_file::{Applied, Image, StateFile};
use super::types::RaftTypes;
use super::{Machine, Verdict};
use crate::store::View;

type LogId = LogIdOf<RaftTypes>;

/// Our [`Machine`] as openraft wants it, with the image file.
#[derive(Clone)]
pub(super) struct StateMachine {
    machine: Arc<dyn Machine>,
    file: Arc<StateFile>,
    disk: Arc<dyn Disk>,
    applied: Arc<Mutex<Applied>>,
    /// Told where members are reached.
    peers: Arc<Peers>,
}

impl StateMachine {
    pub(super) fn new(
        machine: Arc<dyn Machine>,
        file: StateFile,
        disk: Arc<dyn Disk>,
        peers: Arc<Peers>,
    ) -> Self {
        let image = file.image();
        machine.restore(image.view);
        Self { machine, file: Arc::new(file), disk, applied: Arc::new(Mutex::new(image.applied)), peers }
    }

    /// The members by the last word that was applied.
    pub(super) fn membership(&self) -> Membership<u64, MemberNode> {
        self.applied().membership.membership().clone()
    }

    /// Makes the state that of a group of one: what the log holds is applied, committed or not, and the log ends there.
    /// Nothing that was ever answered is lost if this member had it.
    pub(super) async fn stand_alone(&self, log: &LogStore, raft_id: u64, node: MemberNode) -> io::Result<()> {
        let (entries, last) = log.everything();
        let applied = self.applied().log_id;
        for entry in entries.into_iter().filter(|entry| Some(entry.log_id) > applied) {
            if let EntryPayload::Normal(command) = entry.payload {
                // What was refused then is refused again.
                let _ = self.machine.apply(entry.log_id.index, &command.0);
            }
        }
        self.machine.flush();
        let last = last.max(applied);
        let alone = Membership::new(vec![BTreeSet::from([raft_id])], BTreeMap::from([(raft_id, node)]))
            .map_err(io::Error::other)?;
        *self.applied() = Applied { log_id: last, membership: StoredMembership::new(last, alone) };
        let image = Image { applied: self.applied().clone(), view: self.machine.image() };
        self.write(image).await?;
        match last {
            Some(last) => log.clone().purge(last).await,
            None => Ok(()),
        }
    }

    fn applied(&self) -> std::sync::MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, image: Image) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // Who asked may have gone.
        let work = move || drop(sender.send(file.write(&image)));
        self.disk.before_write().await;
        self.disk.run(Box::new(work)).await?;
        receiver.await.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

impl RaftStateMachine<RaftTypes> for StateMachine {
    type SnapshotData = Arc<View>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<RaftTypes>)> {
        let applied = self.applied().clone();
        Ok((applied.log_id, applied.membership))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<RaftTypes>>> + Unpin + OptionalSend,
    {
        let entries: Vec<_> = entries.try_collect().await?;
        let mut answers = Vec::with_capacity(entries.len());
        for (entry, responder) in entries {
            let index = entry.log_id.index;
            let refusal = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(command) => self.machine.apply(index, &command.0),
                EntryPayload::Membership(membership) => {
                    for (id, node) in membership.nodes() {
                        self.peers.learn(*id, &node.addr);
                    }
                    self.applied().membership = StoredMembership::new(Some(entry.log_id), membership);
                    None
                }
            };
            self.applied().log_id = Some(entry.log_id);
            if let Some(responder) = responder {
                answers.push((responder, Verdict { index, refusal }));
            }
        }
        // Visible before answered: who proposed may read its own write.
        self.machine.flush();
        for (responder, verdict) in answers {
            responder.send(verdict);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        // Taken here, between two batches, so that state and index are of one moment.
        let image = Image { applied: self.applied().clone(), view: self.machine.image() };
        SnapshotBuilder { machine: self.clone(), image }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<RaftTypes>,
        view: Arc<View>,
    ) -> io::Result<()> {
        let applied = Applied { log_id: meta.last_log_id, membership: meta.last_membership.clone() };
        self.write(Image { applied: applied.clone(), view: Arc::clone(&view) }).await?;
        self.machine.restore(view);
        *self.applied() = applied;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<RaftTypes, Arc<View>>>> {
        let image = self.file.image();
        Ok(image.applied.log_id.is_some().then(|| snapshot_of(&image)))
    }
}

/// Writes one image.
pub(super) struct SnapshotBuilder {
    machine: StateMachine,
    image: Image,
}

impl RaftSnapshotBuilder<RaftTypes> for SnapshotBuilder {
    type SnapshotData = Arc<View>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<RaftTypes, Arc<View>>> {
        self.machine.write(self.image.clone()).await?;
        Ok(snapshot_of(&self.image))
    }
}

fn snapshot_of(image: &Image) -> SnapshotOf<RaftTypes, Arc<View>> {
    let meta =
        SnapshotMeta { last_log_id: image.applied.log_id, last_membership: image.applied.membership.clone() };
    Snapshot { meta, snapshot: Arc::clone(&image.view) }
}
