//! The worker: session with the dispatcher, assignments, attachments, status.
//!
//! ```text
//!  managers --session--> Core (one model) --whole state--> network controller
//!      ^                   |                                    |
//!      +--statuses, Report-+<------- endpoints of this node ----+
//! ```
//!
//! Service tasks run as containers of the engine (`task/`): a machine per task decides, the worker carries it out.
//! The agent itself never acts on the kernel: it tells the controller what the managers said and the managers what the
//! controller has. While no manager answers, the last word stands.

mod agent;
mod assignments;
mod attachments;
mod backoff;
mod convert;
mod core;
mod description;
mod error;
mod handover;
mod managers;
mod network;
mod network_state;
mod outlook;
mod renewal;
mod session;
mod status;
mod store;
mod task;
mod tasks;
#[doc(hidden)]
pub mod testing;
mod witness;

pub use agent::{Agent, AgentConfig};
pub use attachments::AttachError;
pub use description::HostDescription;
pub use error::{AgentError, StoreError};
pub use status::AgentStatus;
