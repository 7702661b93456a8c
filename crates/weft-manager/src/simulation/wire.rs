//! Calls between hosts: late, lost, out of order, and never where the network is cut.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use weft_wire::weft_v1::{
    AppendRequest, AppendResponse, BarrierRequest, BarrierResponse, ProposeRequest, ProposeResponse,
    SnapshotChunk, SnapshotResponse, TransferRequest, TransferResponse, VoteRequest, VoteResponse,
};

use super::world::World;
use crate::consensus::{Call, CallError, RaftConsensus, Transport};

/// A connection that is not made is given up after this.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A connection on which nothing comes is given up after this, as by the pings of [`weft_identity::peer_channel`].
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// One life's end of all its lines.
pub(super) struct Wire {
    pub(super) world: Arc<World>,
    pub(super) from: usize,
    pub(super) dead: CancellationToken,
}

impl Wire {
    fn call<T, F>(&self, address: &str, run: impl FnOnce(Arc<RaftConsensus>) -> F + Send + 'static) -> Call<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let (world, from, dead) = (Arc::clone(&self.world), self.from, self.dead.clone());
        let to = World::host_at(address);
        async move {
            world.count(|counts| counts.messages += 1);
            world.trace(|| format!("{from} -> {to}: {}", std::any::type_name::<T>()));
            if dead.is_cancelled() {
                return std::future::pending().await;
            }
            let Some(there) = world.way(from, to) else {
                world.count(|counts| counts.lost += 1);
                return no_answer(&world).await;
            };
            let (answer, answered) = oneshot::channel();
            let on_the_way = Arc::clone(&world);
            // Whoever asked may give up; what was sent arrives all the same.
            tokio::spawn(async move {
                tokio::time::sleep(there).await;
                let Some((raft, its_death)) = on_the_way.member(to) else {
                    drop(answer.send(Err(CallError::NotSent(Status::unavailable("connection refused")))));
                    return;
                };
                let running = run(raft);
                let outcome = tokio::select! {
                    biased;
                    () = its_death.cancelled() => {
                        drop(answer.send(Err(CallError::Failed(Status::unavailable("connection reset")))));
                        return;
                    }
                    outcome = running => outcome.map_err(CallError::Failed),
                };
                match on_the_way.way(to, from) {
                    Some(back) => {
                        tokio::time::sleep(back).await;
                        drop(answer.send(outcome));
                    }
                    None => on_the_way.count(|counts| counts.lost += 1),
                }
            });
            match answered.await {
                Ok(_) if dead.is_cancelled() => std::future::pending().await,
                Ok(outcome) => outcome,
                Err(_) => silence().await,
            }
        }
        .boxed()
    }
}

/// Nothing comes back, until that is noticed.
async fn silence<T>() -> Result<T, CallError> {
    tokio::time::sleep(SILENCE_LIMIT).await;
    Err(CallError::Failed(Status::unavailable("keep-alive timed out")))
}

/// What becomes of a call that does not arrive: silence, a broken connection, or none that could be made.
async fn no_answer<T>(world: &World) -> Result<T, CallError> {
    match world.number(0..3) {
        0 => silence().await,
        1 => {
            tokio::time::sleep(world.short_while()).await;
            Err(CallError::Failed(Status::unavailable("connection reset")))
        }
        _ => {
            tokio::time::sleep(CONNECT_LIMIT).await;
            Err(CallError::NotSent(Status::unavailable("connection timed out")))
        }
    }
}

impl Transport for Wire {
    fn append(&self, address: &str, request: AppendRequest) -> Call<AppendResponse> {
        if !self.dead.is_cancelled() {
            let from = request.envelope.as_ref().map_or(0, |envelope| envelope.from);
            self.world.checker.on_append(from, &request);
        }
        self.call(address, |raft| async move { raft.on_append(request).await })
    }

    fn vote(&self, address: &str, request: VoteRequest) -> Call<VoteResponse> {
        self.call(address, |raft| async move { raft.on_vote(request).await })
    }

    fn install_snapshot(
        &self,
        address: &str,
        chunks: ReceiverStream<SnapshotChunk>,
    ) -> Call<SnapshotResponse> {
        self.world.count(|counts| counts.snapshots += 1);
        self.call(address, |raft| async move { raft.on_snapshot(chunks.map(Ok)).await })
    }

    fn transfer_leader(&self, address: &str, request: TransferRequest) -> Call<TransferResponse> {
        self.call(address, |raft| async move { raft.on_transfer(request).await })
    }

    fn propose(&self, address: &str, request: ProposeRequest) -> Call<ProposeResponse> {
        self.call(address, |raft| async move { raft.on_propose(request).await })
    }

    fn barrier(&self, address: &str, request: BarrierRequest) -> Call<BarrierResponse> {
        self.call(address, |raft| async move { raft.on_barrier(request).await })
    }
}
