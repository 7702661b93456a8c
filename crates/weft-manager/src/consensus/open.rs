//! Opening the files of a member and beginning with what they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::{EntryPayload, Raft};

use super::ConsensusError;
use super::disk::Disk;
use super::log_store::LogStore;
use super::machine::StateMachine;
use super::member::{MemberNode, Seat, random_number};
use super::network::Lines;
use super::options::{Opening, Parts};
use super::peers::Peers;
use super::raft::stopped;
use super::state_file::{OpenFile, StateFile};
use super::transport::Transport;
use super::types::Instance;
use crate::seal::Sealer;

const LOG_FILE: &str = "raft-log.redb";
const STATE_FILE: &str = "raft-state.redb";
/// Raft id in files that are older than the seat kept in them.
const FIRST_MEMBER: u64 = 1;
/// How long opening waits for the log of a group of one to be applied again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// The open files.
pub(super) struct OpenFiles {
    log: LogStore,
    state: StateFile,
}

impl OpenFiles {
    /// Opens both, or none. `open` is held for as long as one of them is open.
    pub(super) async fn open(
        folder: &Path,
        disk: Arc<dyn Disk>,
        sealer: Arc<Sealer>,
        open: OpenFile,
    ) -> Result<Self, ConsensusError> {
        let [log, state] = files(folder);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let on = Arc::clone(&disk);
        let work = move || {
            let opened = LogStore::open(&log, &on, Arc::clone(&sealer), open.clone())
                .and_then(|log| Ok(Self { log, state: StateFile::open(&state, &on, sealer, open)? }));
            // Who asked may have gone.
            drop(sender.send(opened));
        };
        disk.run(Box::new(work)).await.map_err(stopped)?;
        Ok(receiver.await.map_err(stopped)??)
    }
}

/// The files a store consists of, for removal when a node leaves its swarm.
pub(crate) fn files(folder: &Path) -> [PathBuf; 2] {
    [folder.join(LOG_FILE), folder.join(STATE_FILE)]
}

/// Raft on open files.
pub(super) struct Begun {
    pub(super) raft: Instance,
    pub(super) seat: Arc<Seat>,
    pub(super) log: LogStore,
    pub(super) peers: Arc<Peers>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) own_address: String,
    pub(super) alone: bool,
}

/// Takes the member's seat, and begins.
pub(super) async fn begin(
    opening: Opening,
    parts: Parts<'_>,
    files: OpenFiles,
) -> Result<Begun, ConsensusError> {
    let Parts { node, peers, transport, machine, options, disk, .. } = parts;
    let OpenFiles { log, state } = files;
    let fresh = log.is_empty();
    if fresh && matches!(opening, Opening::Resume | Opening::Alone) {
        return Err(ConsensusError::Empty);
    }
    let seat = Arc::new(take_seat(&log, opening, fresh).await?);
    let machine = StateMachine::new(machine, state, disk, Arc::clone(&peers));
    if opening == Opening::Alone {
        machine.stand_alone(&log, seat.raft_id, node.clone()).await.map_err(stopped)?;
    }
    let voters = if fresh { Vec::new() } else { voters_of(&log, &machine) };
    let own_address = node.addr.clone();
    let lines = Lines {
        seat: Arc::clone(&seat),
        peers: Arc::clone(&peers),
        transport: Arc::clone(&transport),
        address: own_address.clone(),
    };
    let raft = Raft::new(seat.raft_id, Arc::new(options.config()), lines, log.clone(), machine)
        .await
        .map_err(stopped)?;
    let alone = (fresh && opening == Opening::Found) || voters == [seat.raft_id];
    if alone && let Err(error) = lead_alone(&raft, seat.raft_id, fresh.then_some(node)).await {
        let _ = raft.shutdown().await;
        return Err(error);
    }
    Ok(Begun { raft, seat, log, peers, transport, own_address, alone })
}

async fn take_seat(log: &LogStore, opening: Opening, fresh: bool) -> Result<Seat, ConsensusError> {
    let (raft_id, group) = match log.seat() {
        Some(seat) if opening != Opening::Alone => return Ok(seat),
        Some(seat) => (seat.raft_id, random_number()),
        None if fresh && opening == Opening::Join => (random_number(), 0),
        None if fresh => (random_number(), random_number()),
        None => (FIRST_MEMBER, if opening == Opening::Alone { random_number() } else { 0 }),
    };
    log.save_seat(raft_id, group).await.map_err(stopped)?;
    Ok(Seat::new(raft_id, group))
}

/// The only voter need not wait for an election timeout to ask itself, and can be waited for. `founder` begins a group.
async fn lead_alone(raft: &Instance, own: u64, founder: Option<MemberNode>) -> Result<(), ConsensusError> {
    match founder {
        Some(node) => raft.initialize(BTreeMap::from([(own, node)])).await.map_err(stopped)?,
        None => raft.trigger().elect(false).await.map_err(stopped)?,
    }
    raft.wait(Some(RECOVERY_LIMIT)).current_leader(own, "own election").await.map_err(stopped)?;
    raft.wait_for_recovery(Some(RECOVERY_LIMIT)).await.map_err(stopped)?;
    Ok(())
}

/// Who votes by the last word in the files, agreed on or not.
fn voters_of(log: &LogStore, machine: &StateMachine) -> Vec<u64> {
    let (entries, _) = log.everything();
    let last = entries.into_iter().rev().find_map(|entry| match entry.payload {
        EntryPayload::Membership(membership) => Some(membership),
        _ => None,
    });
    last.unwrap_or_else(|| machine.membership()).voter_ids().collect()
}
