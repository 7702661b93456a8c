//! What only the leader does, begun when the leadership comes and dropped when it goes.
//!
//! ```text
//! follower --elected--> prepare (apply everything, nodes unknown) --> in office: duties run, nodes have sessions
//!     ^                                                                  |
//!     +------------ duties dropped, sessions ended <----- lost ----------+
//! ```
//! Invariant: everything a duty does is a transaction with preconditions, so that one which goes on for a moment after
//! the leadership was lost does no harm. A duty is dropped at an await point and begun anew by the next leader: what
//! it knows must follow from the store.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use crate::brain::Brain;
use crate::{dispatcher, drive, keys, membership, reconcile, root_rotation};

/// Between two attempts to prepare, while a quorum is gone again.
const PAUSE: Duration = Duration::from_millis(500);

/// What runs while this manager leads. Each ends by itself only when the manager stops.
fn duties(brain: &Arc<Brain>) -> Vec<BoxFuture<'static, ()>> {
    let weak = || Arc::downgrade(brain);
    vec![
        Box::pin(reconcile::follow_commits(weak())),
        Box::pin(reconcile::give_up_lost_nodes(weak())),
        Box::pin(drive::run(weak())),
        Box::pin(membership::keep_record(weak())),
        Box::pin(keys::rotate(weak())),
        Box::pin(root_rotation::converge(weak())),
    ]
}

/// Follows the leadership until the manager stops. `founded`: this manager made the swarm just now, and nobody has to
/// be heard of again.
pub(crate) async fn follow_leadership(brain: Weak<Brain>, mut founded: bool) {
    let Some((mut leadership, stopping)) =
        brain.upgrade().map(|brain| (brain.core.leadership(), brain.core.stopping.clone()))
    else {
        return;
    };
    let stopped = stopping.clone();
    let follow = async {
        loop {
            if leadership.wait_for(|now| now.leading).await.is_err() {
                return;
            }
            let Some(held) = take_office(&brain, founded).await else { return };
            founded = false;
            if let Some(duties) = held {
                tokio::select! {
                    _ = leadership.wait_for(|now| !now.leading) => {}
                    () = stopping.cancelled() => {}
                }
                leave_office(&brain, duties).await;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    stopped.run_until_cancelled(follow).await;
}

/// The running duties; none inside if the leadership was lost again meanwhile, and none at all if the manager is gone.
async fn take_office(brain: &Weak<Brain>, founded: bool) -> Option<Option<JoinSet<()>>> {
    let brain = brain.upgrade()?;
    let core = &brain.core;
    if let Err(error) = core.barrier().await {
        tracing::warn!(%error, "elected, and no longer leading");
        return Some(None);
    }
    let mut running = JoinSet::new();
    if !founded {
        dispatcher::mark_unknown(core).await;
        running.spawn(dispatcher::give_up_unknown(Arc::downgrade(&brain)));
    }
    membership::record(&brain).await;
    for duty in duties(&brain) {
        running.spawn(duty);
    }
    tracing::info!(term = core.leadership().borrow().term, "this manager leads the swarm");
    core.set_in_office(true);
    Some(Some(running))
}

async fn leave_office(brain: &Weak<Brain>, mut duties: JoinSet<()>) {
    if let Some(brain) = brain.upgrade() {
        brain.core.set_in_office(false);
        brain.sessions.end_all();
        tracing::info!("this manager no longer leads the swarm");
    }
    duties.shutdown().await;
}
