//! A host and the manager's life on it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::checker::Observed;
use super::disk::{Death, SimulatedDisk};
use super::wire::Wire;
use super::world::World;
use crate::config::Timing;
use crate::consensus::{Consensus as _, ConsensusError, MemberNode, Opening, Parts, Peers, RaftConsensus};
use crate::core::Core;
use crate::seal::Sealer;
use crate::store::Store;
use weft_types::{NodeId, SwarmId};

/// From a start to a death.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) core: Arc<Core>,
    /// Cancelled when it is about to end: its user goes.
    pub(super) leaving: CancellationToken,
    /// Cancelled at the death: what this life still does, nobody sees.
    pub(super) dead: CancellationToken,
}

impl Life {
    /// A manager on its host's disk.
    pub(super) async fn begin(
        world: &Arc<World>,
        host: usize,
        opening: Opening,
        disk: SimulatedDisk,
    ) -> Result<Self, ConsensusError> {
        let dead = CancellationToken::new();
        let store = Store::new();
        let peers = Arc::new(Peers::default());
        let machine = Observed {
            store: Arc::clone(&store),
            host,
            dead: dead.clone(),
            checker: Arc::clone(&world.checker),
        };
        let parts = Parts {
            folder: Path::new("/swarm"),
            disk: Arc::new(disk),
            node: member(host),
            peers: Arc::clone(&peers),
            transport: Arc::new(Wire { world: Arc::clone(world), from: host, dead: dead.clone() }),
            sealer: Arc::new(Sealer::new(&[3; 32], 1)),
            machine: Arc::new(machine),
            options: world.plan.options(),
        };
        let raft = Arc::new(RaftConsensus::open(opening, parts).await?);
        let advertise = SocketAddr::from(([10, 0, 0, 1], 2377));
        let (swarm, node) = (SwarmId::random(&mut rand::rng()), NodeId::random(&mut rand::rng()));
        let core = Core::new(store, raft, peers, swarm, node, Timing::default(), advertise);
        Ok(Self { core, leaving: CancellationToken::new(), dead })
    }

    pub(super) fn raft(&self) -> &Arc<RaftConsensus> {
        &self.core.raft
    }

    pub(super) fn leads(&self) -> bool {
        self.raft().subscribe().borrow().leading
    }

    /// Dies at once. What is left of it stops by and by, unseen.
    pub(super) fn die(self, disk: &SimulatedDisk, death: Death) -> SimulatedDisk {
        self.dead.cancel();
        let left = disk.after(death);
        tokio::spawn(async move { self.raft().shutdown().await });
        left
    }

    /// Stops in good order.
    pub(super) async fn stop(self) {
        self.raft().shutdown().await;
        self.dead.cancel();
    }
}

/// How the group knows a host.
pub(super) fn member(host: usize) -> MemberNode {
    MemberNode { node_id: name(host), addr: host.to_string() }
}

/// The node's id.
pub(super) fn name(host: usize) -> String {
    format!("node{host}")
}
