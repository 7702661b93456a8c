//! Connections to the other managers: one per address, made at the first call and again after each loss.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;
use tonic::transport::Channel;
use weft_identity::{IdentityHandle, peer_channel};
use weft_wire::weft_v1::consensus_client::ConsensusClient;

/// Largest message that is taken from another manager. Secrets are the largest objects, and a message of entries is
/// cut at a fraction of this.
pub(super) const MAX_MESSAGE: usize = 64 << 20;

/// No connection can even be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// This manager does not serve yet.
    #[error("this manager has no identity yet")]
    NoIdentity,
    #[error("{0:?} is no address of a manager")]
    Address(String),
    #[error(transparent)]
    Certificate(#[from] weft_identity::CertificateError),
}

/// Shared by everything that calls other managers.
#[derive(Default)]
pub(crate) struct Peers {
    identity: OnceLock<IdentityHandle>,
    introduced: Notify,
    channels: Mutex<HashMap<SocketAddr, Channel>>,
    /// Where members are reached: by the group's word, or by their own if that is newer.
    book: Mutex<HashMap<u64, String>>,
}

impl Peers {
    /// Whose certificate is shown to the others.
    pub(crate) fn introduce(&self, identity: &IdentityHandle) {
        // A second one would be the same handle: a manager has one.
        let _ = self.identity.set(identity.clone());
        self.introduced.notify_waiters();
    }

    /// Whose certificate is shown, once that is known.
    pub(crate) async fn introduced(&self) -> IdentityHandle {
        loop {
            let mut told = std::pin::pin!(self.introduced.notified());
            // Registered before looking: nothing in between is missed.
            told.as_mut().enable();
            if let Some(identity) = self.identity.get() {
                return identity.clone();
            }
            told.await;
        }
    }

    /// Notes where a member is reached.
    pub(crate) fn learn(&self, raft_id: u64, address: &str) {
        if !address.is_empty() {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.insert(raft_id, address.to_owned());
        }
    }

    /// Where a member is reached.
    pub(crate) fn address_of(&self, raft_id: u64) -> Option<String> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).get(&raft_id).cloned()
    }

    /// The connection to a manager.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel, PeerError> {
        let identity = self.identity.get().ok_or(PeerError::NoIdentity)?;
        let address = address.parse().map_err(|_| PeerError::Address(address.to_owned()))?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&address) {
            return Ok(channel.clone());
        }
        let channel = peer_channel(address, identity)?;
        channels.insert(address, channel.clone());
        Ok(channel)
    }

    /// The service of another manager.
    pub(crate) fn client(&self, address: &str) -> Result<ConsensusClient<Channel>, PeerError> {
        let client = ConsensusClient::new(self.channel(address)?);
        Ok(client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }
}
