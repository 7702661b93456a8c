//! Overlay networks that hosts share through a key-value store, instead of a swarm.
//!
//! ```text
//!            document            what the store holds, and the changes of it
//!            Outlook             what this host knows of it; the whole state for the network controller
//!            Duties              what this host is to write: claims of its containers, its endpoints
//!   pure  ---------------------------------------------------------------------------------------
//!   edge     GlobalNetworks      asks and tells the store, tells the controller, answers the daemon
//! ```
//! All that must be unique is made so by one document each, written only over the version that was read: the names,
//! subnets and identifiers of all networks; the addresses of one network. A host's endpoints are under its lease.
//!
//! Invariants: a claim of an address is made before its container has it, and given back after. While the store does not
//! answer, what was last known stands and nothing is given out. Who finds something of his own missing there puts it
//! back: a store that lost its data gets the networks in use again.

mod document;
mod duties;
mod edge;
mod error;
mod outlook;

pub use document::{
    AddressBook, Document, EndpointRecord, GlobalNetwork, GlobalSubnet, Holder, MAX_DOCUMENT, NetworkBook,
    Unreadable, keys,
};
pub use duties::{Duties, Own};
pub use edge::{GlobalConfig, GlobalNetworks, Host, Withdrawn};
pub use error::{GlobalError, Refused};
pub use outlook::{GRACE, Outlook};
