//! A key-value store that hosts share, Consul or etcd, behind one typed client.
//!
//! ```text
//! LeasedKeys, Watch     keep keys while this process lives; follow a folder through all that befalls the store
//!        Store          get, list, and changes under compare-and-swap; leases. Endpoints are tried in turn
//!   consul    etcd      HTTP API v1; gRPC API v3
//! ```
//! Every call has a deadline and is answered or fails with an error that says whether anything may have changed.
//! A change whose answer was lost is never repeated by itself: its caller reads and decides.
//!
//! Not done here: what the keys mean. Locks and elections: compare-and-swap is enough for what Weft keeps there.

mod address;
mod backoff;
mod consul;
mod dial;
mod entry;
mod error;
mod etcd;
mod known;
mod lease;
mod rotation;
mod store;
mod tls;
mod watch;

pub use address::{AddressError, StoreAddress};
pub use entry::{Change, Entry, Version};
pub use error::StoreError;
pub use lease::{Leased, LeasedKeys, Timing, keep_alive};
pub use store::{Lease, Location, LocationError, Store};
pub use tls::{TlsError, TlsFiles};
pub use watch::Watch;
