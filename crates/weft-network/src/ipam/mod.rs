//! Addresses of local networks: which subnet a network gets, which address an endpoint gets.
//!
//! Nothing is stored here: what is in use is read off the networks and endpoints each time, so that the two can never
//! disagree. Swarm networks are allocated by the managers instead.

mod addresses;
mod check;
mod subnets;

pub(crate) use addresses::{first_free, pool_use, takes};
pub(crate) use check::{check_config, resolve_config};
pub use subnets::AddressPool;
pub(crate) use subnets::{default_pools, free_subnet, overlaps_any, unique_local_prefix};

/// Docker's layout of several complaints: one stands alone, more get bullets.
pub(crate) fn join_complaints(complaints: &[String]) -> String {
    match complaints {
        [one] => one.clone(),
        many => many.iter().map(|c| format!("* {c}")).collect::<Vec<_>>().join("\n"),
    }
}
