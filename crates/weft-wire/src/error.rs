//! Why bytes from the wire were refused.

use weft_types::{Classified, ErrorKind};

/// Refusal of received bytes, or of a value that has no form on the wire. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the value does.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// A value larger than its limit; the limit is in bytes.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The value.
        what: &'static str,
        /// Largest accepted size in bytes.
        limit: usize,
    },
    /// Layers nested deeper than any sender does.
    #[error("{0} is nested too deeply")]
    TooDeep(&'static str),
    /// A type byte that is not known, or not allowed at this place.
    #[error("unexpected message type {0}")]
    UnexpectedType(u8),
    /// The sender does not encrypt, or uses an encryption version that we do not speak.
    #[error("not encrypted in version 1: first byte is {0}")]
    NotEncrypted(u8),
    /// No key of the key ring opens it: foreign cluster, missed rotation, or forged.
    #[error("no installed key decrypts the message")]
    NoKeyDecrypts,
    /// The checksum does not match the content.
    #[error("checksum is {found:08x} but the content has {computed:08x}")]
    Checksum {
        /// As sent.
        found: u32,
        /// Over the received content.
        computed: u32,
    },
    /// Compressed with an unknown algorithm, or damaged.
    #[error("compressed content is damaged or of an unknown algorithm")]
    Compression,
    /// Not MessagePack, or not a map with text keys.
    #[error("malformed MessagePack")]
    MessagePack,
    /// A field has the wrong kind, range or length.
    #[error("field {field} of {message} is not valid")]
    Field {
        /// The message that holds the field.
        message: &'static str,
        /// The field's name on the wire.
        field: &'static str,
    },
    /// Not a valid protobuf message.
    #[error("malformed {message}")]
    Protobuf {
        /// The expected message.
        message: &'static str,
        /// What the decoder met.
        #[source]
        source: prost::DecodeError,
    },
    /// More messages than one compound can count.
    #[error("{0} messages do not fit into one compound of at most 255")]
    TooManyMessages(usize),
}

impl Classified for WireError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}
