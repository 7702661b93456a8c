//! Whether a node whose daemon fell silent is dead, or only its daemon is away.
//!
//! A node is dead only if its helper is: the helper outlives the daemon and keeps the gossip port, so who accepts a
//! connection there speaks for the node. The dispatcher asks once a session broke or a heartbeat is late. Answered:
//! the node is DISCONNECTED in time, its tasks and what peers know of it are kept for a grace period, and it is asked
//! again and again. Refused or silent often enough: it is DOWN. A Docker node is not asked: its daemon holds that
//! port itself.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, select_ok};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Enough for the first try of TCP and its first repetition, one second later.
const DEADLINE: Duration = Duration::from_millis(1500);
/// Connections tried at once: where half of all packets are lost, all of them fail once in a hundred times.
const ATTEMPTS: usize = 8;

/// What a probe of a helper found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Somebody accepts: the node lives.
    Accepted,
    /// The host says that nobody is there: no process of the node is left.
    Refused,
    /// No word: the host is gone, or packets are lost.
    Silent,
}

/// Asks a node's helper.
pub(crate) trait Liveness: Send + Sync {
    /// What something at this address answers for the node; none: nobody answers for anyone.
    fn probe(&self, node: IpAddr) -> BoxFuture<'_, Option<Answer>>;
}

/// Connects to the gossip port.
pub(crate) struct HelperProbe {
    /// None: nobody answers for anyone.
    pub(crate) port: Option<u16>,
}

impl Liveness for HelperProbe {
    fn probe(&self, node: IpAddr) -> BoxFuture<'_, Option<Answer>> {
        async move { Some(probe(SocketAddr::new(node, self.port?)).await) }.boxed()
    }
}

async fn probe(address: SocketAddr) -> Answer {
    let connections = (0..ATTEMPTS).map(|_| TcpStream::connect(address).boxed());
    match timeout(DEADLINE, select_ok(connections)).await {
        Ok(Ok(_)) => Answer::Accepted,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Answer::Refused,
        Ok(Err(_)) | Err(_) => Answer::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_tells_a_listener_from_none() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(probe(address).await, Answer::Accepted);
        drop(listener);
        assert_eq!(probe(address).await, Answer::Refused);
        assert_eq!(HelperProbe { port: None }.probe(address.ip()).await, None);
    }
}
