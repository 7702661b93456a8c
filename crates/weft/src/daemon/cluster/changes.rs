//! What changes in the stores of the swarms this node is a manager of, one swarm after the other.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use weft_api::{SwarmChange, SwarmObject};
use weft_manager::{Change, Commit, Object};

use super::Cluster;

/// How often a node that is no manager looks whether it has become one.
const LOOK: Duration = Duration::from_millis(100);

/// Ends with the cluster.
pub(super) fn of(cluster: &Arc<Cluster>) -> impl Stream<Item = SwarmChange> + Send + 'static {
    let start = (Arc::downgrade(cluster), None, Vec::new().into_iter());
    stream::unfold(start, |(cluster, mut source, mut pending)| async move {
        loop {
            if let Some(change) = pending.next() {
                return Some((change, (cluster, source, pending)));
            }
            let mut commits = match source.take() {
                Some(commits) => commits,
                None => next_store(&cluster).await?,
            };
            match commits.recv().await {
                Ok(commit) => {
                    pending = changes(&commit).into_iter();
                    source = Some(commits);
                }
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "events of the swarm were lost");
                    source = Some(commits);
                }
                // That manager has ended.
                Err(RecvError::Closed) => {}
            }
        }
    })
}

async fn next_store(cluster: &Weak<Cluster>) -> Option<Receiver<Arc<Commit>>> {
    loop {
        if let Ok((_, control)) = cluster.upgrade()?.control() {
            return Some(control.events());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn changes(commit: &Commit) -> Vec<SwarmChange> {
    commit.changes.iter().filter_map(change).collect()
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
