//! The worker: session with the dispatcher, assignments, attachments, status.
