//! Whether a node whose heartbeats stopped is dead, or only its daemon is away.
//!
//! A node is dead only if its helper is: the helper outlives the daemon and answers a probe. The dispatcher asks here
//! once heartbeats have stopped. Answered: the node is DISCONNECTED, its tasks and what peers know of it are kept, and
//! it is asked again each period. Silent: it is DOWN.
//!
//! Not built yet: the probe itself (the helper's side of it comes first). [`Silent`] stands in: every node whose
//! heartbeats stop is down, as with Docker.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use weft_wire::swarmkit::Node;

/// Asks a node's helper.
pub(crate) trait Liveness: Send + Sync {
    /// Whether something on the node answers for it.
    fn answers<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, bool>;
}

/// Nobody is ever asked.
pub(crate) struct Silent;

impl Liveness for Silent {
    fn answers<'a>(&'a self, _: &'a Node) -> BoxFuture<'a, bool> {
        std::future::ready(false).boxed()
    }
}
