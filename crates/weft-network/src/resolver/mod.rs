//! The embedded resolver: what containers find at 127.0.0.11.
//!
//! Local names are answered from memory; everything else goes to the container's servers. The sockets live inside the
//! container's namespace at ports that the kernel picks; a stateless rewrite there leads port 53 to them.

mod forward;
mod names;
mod server;
mod wire;

#[expect(unused_imports, reason = "named ports come with the services")]
pub(crate) use names::NamedPort;
pub(crate) use names::{NameRecord, NameTable, NetworkNames, View};
pub(crate) use server::{Server, Settings};
