//! Who leads, by this member's own lights.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::member::Seat;
use super::types::{Instance, RaftTypes};
use super::{ConsensusError, Leadership};

/// A leader that a quorum has not answered for this long counts as none. More than the pause of a stalled disk costs
/// heartbeats, which are not written.
const QUORUM_LOST: Duration = Duration::from_secs(3);
/// How often the word on leadership is compared with the clock.
const LOOK: Duration = Duration::from_millis(250);

/// A leader that dies or steps down is followed by another one within an election: wait for the news, or look again
/// after a moment, because the news may have come before the question.
pub(super) async fn wait_change(
    leadership: &mut watch::Receiver<Leadership>,
    end: Instant,
) -> Result<(), ConsensusError> {
    if Instant::now() >= end {
        return Err(ConsensusError::NoLeader);
    }
    // Its sender lives as long as this member.
    let _ = timeout(LOOK.min(end - Instant::now()), leadership.changed()).await;
    Ok(())
}

/// Tells changes of leadership until the task is aborted.
pub(super) fn watch_leadership(
    raft: &Instance,
    seat: &Arc<Seat>,
) -> (watch::Receiver<Leadership>, tokio::task::JoinHandle<()>) {
    let mut metrics = raft.metrics();
    let (sender, receiver) = watch::channel(leadership_of(&metrics.borrow_watched(), seat));
    let seat = Arc::clone(seat);
    let watcher = tokio::spawn(async move {
        loop {
            // The silence of a quorum is no change of the metrics.
            if let Ok(Err(_)) = timeout(LOOK, metrics.changed()).await {
                return;
            }
            let now = leadership_of(&metrics.borrow_watched(), &seat);
            sender.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
    });
    (receiver, watcher)
}

fn leadership_of(metrics: &RaftMetrics<RaftTypes>, seat: &Seat) -> Leadership {
    let leading = metrics.state == ServerState::Leader && has_quorum(metrics);
    let leader = match metrics.current_leader {
        Some(id) if id == metrics.id => leading.then_some(id),
        // Raft keeps the last one in mind until there is another.
        other => other.filter(|_| seat.silence() < QUORUM_LOST),
    };
    Leadership { leading, leader, term: metrics.current_term }
}

/// Whether enough members have answered this leader lately.
fn has_quorum(metrics: &RaftMetrics<RaftTypes>) -> bool {
    let voters = metrics.membership_config.membership().voter_ids().count();
    voters <= 1 || metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < QUORUM_LOST)
}
