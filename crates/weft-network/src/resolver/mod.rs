//! The embedded resolver: what containers find at 127.0.0.11.
//!
//! Local names are answered from memory; everything else goes to the container's servers. The sockets live inside the
//! container's namespace at ports that the kernel picks; a stateless rewrite there leads port 53 to them.
//!
//! ```text
//! datagram, connection -> judge -> local name: answered at once, on the container's own thread of answers
//!                                  the cluster's, but not this container's: no such name
//!                                  anything else: forward (one question at a time, whoever asks; in turns; hedged)
//! ```
//!
//! Nothing is cached: the host's servers do that, and equal questions under way are asked once.

mod answer;
mod batch;
mod cow;
mod forward;
mod judge;
mod names;
mod query;
mod server;
mod table;
mod tcp;
mod threads;
mod turns;
mod upstream;
mod view;

pub(crate) use names::{NameRecord, NamedPort, NetworkNames, RecordChange};
pub(crate) use server::{Common, Server, Settings};
pub(crate) use table::NameTable;
pub(crate) use threads::Threads;
pub(crate) use turns::Turns;
pub(crate) use view::{ClusterNames, SharedTable, View};
