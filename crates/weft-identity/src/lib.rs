//! Identity of nodes in a swarm: root CA, certificates, join tokens, and the TLS connections made from them.
//!
//! Formats are SwarmKit's, so that Docker nodes and Weft nodes can join each other's swarms.
//! Invariants: a [`NodeIdentity`] always has a key that fits its certificate; an [`IdentityHandle`] is swapped as a
//! whole and stored before it is used; a private key leaves this crate only as PEM for storage (sealed where the node is a locked manager), never
//! in logs.
//! Not done here: deciding who may have a certificate (the manager) and when to renew (the agent).

mod base36;
mod channel;
mod error;
mod handle;
mod join;
mod listener;
mod node_identity;
mod node_key;
mod peer;
mod pem;
mod role;
mod root_bundle;
mod root_ca;
mod tls;
mod token;

pub use channel::{ChannelMode, USER_AGENT, channel, peer_channel};
pub use error::{CertificateError, JoinError, Refusal, StoreError, TokenError};
pub use handle::IdentityHandle;
pub use join::{bootstrap, download_root, renew};
pub use listener::{TlsConn, incoming};
pub use node_identity::{IssuerInfo, KeySeal, NodeIdentity};
pub use node_key::NodeKey;
pub use peer::{ConnectInfo, PeerCertificate};
pub use role::NodeRole;
pub use root_bundle::RootBundle;
pub use root_ca::{CA_SERVER_NAME, DEFAULT_NODE_VALIDITY, RootCa};
pub use token::JoinToken;
