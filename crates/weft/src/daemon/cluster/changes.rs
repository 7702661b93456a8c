//! News of the swarms this node is a manager of, one swarm after the other: what changes in the store, and notices.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use weft_api::{SwarmChange, SwarmNews, SwarmObject, Unacknowledged};
use weft_manager::{Change, Commit, Notice, Object, Turn};

use super::Cluster;

/// How often a node that is no manager looks whether it has become one.
const LOOK: Duration = Duration::from_millis(100);

/// Ends with the cluster.
pub(super) fn of(cluster: &Arc<Cluster>) -> impl Stream<Item = SwarmNews> + Send + 'static {
    let start = (Arc::downgrade(cluster), None, Vec::new().into_iter());
    stream::unfold(start, |(cluster, mut source, mut pending)| async move {
        loop {
            if let Some(change) = pending.next() {
                return Some((change, (cluster, source, pending)));
            }
            let mut manager = match source.take() {
                Some(manager) => manager,
                None => next_manager(&cluster).await?,
            };
            let news = tokio::select! {
                commit = manager.commits.recv() => commit.map(|commit| changes(&commit)),
                notice = manager.notices.recv() => notice.map(|notice| vec![told(notice)]),
            };
            match news {
                Ok(news) => {
                    pending = news.into_iter();
                    source = Some(manager);
                }
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "events of the swarm were lost");
                    source = Some(manager);
                }
                // That manager has ended.
                Err(RecvError::Closed) => {}
            }
        }
    })
}

/// What one manager tells.
struct Source {
    commits: Receiver<Arc<Commit>>,
    notices: Receiver<Notice>,
}

async fn next_manager(cluster: &Weak<Cluster>) -> Option<Source> {
    loop {
        if let Ok((_, control)) = cluster.upgrade()?.control() {
            return Some(Source { commits: control.events(), notices: control.notices() });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn changes(commit: &Commit) -> Vec<SwarmNews> {
    commit.changes.iter().filter_map(change).map(SwarmNews::Change).collect()
}

fn told(notice: Notice) -> SwarmNews {
    let Notice::Unacknowledged(missed) = notice;
    SwarmNews::Unacknowledged(Unacknowledged {
        node: missed.node,
        services: missed.services,
        tasks: missed.tasks,
        is_drain: missed.turn == Turn::Drain,
        error: missed.error,
    })
}

/// `None` for kinds that users hear nothing of.
fn change(change: &Change) -> Option<SwarmChange> {
    let told = SwarmChange {
        before: change.before.as_ref().and_then(object),
        after: change.after.as_ref().and_then(object),
    };
    (told.before.is_some() || told.after.is_some()).then_some(told)
}

fn object(object: &Object) -> Option<SwarmObject> {
    Some(match object {
        Object::Node(node) => SwarmObject::Node(Arc::clone(node)),
        Object::Service(service) => SwarmObject::Service(Arc::clone(service)),
        Object::Network(network) => SwarmObject::Network(Arc::clone(network)),
        Object::Secret(secret) => SwarmObject::Secret(Arc::clone(secret)),
        Object::Config(config) => SwarmObject::Config(Arc::clone(config)),
        Object::Cluster(_) | Object::Task(_) | Object::Resource(_) => return None,
    })
}
