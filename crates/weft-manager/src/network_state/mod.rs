//! `weft.v1.NetworkState`: what nodes report of their endpoints, what they are told of others', and how far they are.
//!
//! Addresses are Raft's: an endpoint counts only while the attachment that it names exists, is its node's, and has its
//! address. Endpoints of nodes that are down are not told.

mod endpoints;
mod handover;
mod progress;
mod report;
mod services;
mod watch;

pub use handover::Turn;
pub(crate) use handover::{HandoverError, hand_over};
pub use progress::Acknowledged;
pub(crate) use progress::Progress;
pub(crate) use report::{ReportError, report};
pub(crate) use watch::{networks_of_node, stream as watch};
