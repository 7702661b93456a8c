//! The dispatcher: sessions of nodes, their heartbeats, what they shall do and what they say they did.

mod assignments;
mod heartbeat;
mod known;
mod registration;
mod session_stream;
mod sessions;
mod suspicion;
mod task_status;

pub(crate) use assignments::stream as assignments;
pub(crate) use heartbeat::{beat, depart, give_up_unknown, jittered, mark_unknown};
pub(crate) use registration::{RegisterError, register};
pub(crate) use session_stream::stream as session_messages;
pub(crate) use sessions::{Session, SessionError, Sessions};
pub(crate) use task_status::{UpdateError, is_attachment, update as update_task_status};
