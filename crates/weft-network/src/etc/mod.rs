//! The files that a container finds in `/etc`: `hosts`, `resolv.conf`, `hostname`.
//!
//! They are bind-mounted one by one, so they are rewritten in place and never replaced.

mod hosts;
mod resolv_conf;

pub(crate) use hosts::{hosts_base, hosts_lines, update_hosts};
pub(crate) use resolv_conf::{HostResolver, Resolver, Upstream, resolver};
