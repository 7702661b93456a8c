//! Why a packet was not taken or made.

/// A packet that is dropped. Each kind is counted on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Too short, or its inside does not add up.
    #[error("malformed packet")]
    Malformed,
    /// It came before, or so long ago that nobody remembers.
    #[error("replayed packet")]
    Replayed,
    /// Altered, or made without the key.
    #[error("packet is not authentic")]
    NotAuthentic,
    /// Made with a key that the managers have not handed out, or have taken back.
    #[error("unknown key")]
    UnknownKey,
}

/// All sequence numbers of a key are used: RFC 4303, section 3.3.3, forbids to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all sequence numbers of the key are used")]
pub struct Exhausted;
