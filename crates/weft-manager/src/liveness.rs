//! Whether a node whose heartbeats stopped is dead, or only its daemon is away.
//!
//! A node is dead only if its helper is: the helper outlives the daemon and keeps the gossip port, so who accepts a
//! connection there speaks for the node. The dispatcher asks once heartbeats have stopped. Answered: the node is
//! DISCONNECTED, its tasks and what peers know of it are kept for a grace period, and it is asked again each period.
//! Silent: it is DOWN. A Docker node is not asked: its daemon holds that port itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A helper that takes longer to accept is no use to its containers either.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks a node's helper.
pub(crate) trait Liveness: Send + Sync {
    /// Whether something at this address answers for the node.
    fn answers(&self, node: IpAddr) -> BoxFuture<'_, bool>;
}

/// Connects to the gossip port.
pub(crate) struct HelperProbe {
    /// None: nobody answers for anyone.
    pub(crate) port: Option<u16>,
}

impl Liveness for HelperProbe {
    fn answers(&self, node: IpAddr) -> BoxFuture<'_, bool> {
        async move {
            let Some(port) = self.port else { return false };
            let connected = timeout(DEADLINE, TcpStream::connect(SocketAddr::new(node, port))).await;
            matches!(connected, Ok(Ok(_)))
        }
        .boxed()
    }
}
