//! The loops over services, from outside: exact effects in given situations, and what holds whatever happens.

#![allow(clippy::unwrap_used, reason = "a test may fail by it")]

mod global;
mod history;
mod jobs;
mod properties;
mod replicated;
mod restart;
mod update;
mod world;
