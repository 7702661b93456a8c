//! The Container Network Interface (its specification 1.1.0; 1.0.0 and 0.4.0 are spoken too).
//!
//! A runtime starts the plugin once a call, with the call in its environment and the configuration on standard input.
//! [`main`] turns that into one request to the daemon ([`protocol`]), which [`CniFace`] answers by the controller.

mod config;
mod environment;
mod error;
mod face;
mod program;
mod protocol;
mod result;
mod version;

pub use face::CniFace;
pub use program::{is_call, main};
