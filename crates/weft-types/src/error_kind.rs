//! What went wrong, in the classes that Docker's API distinguishes.

/// The class of an error: decides the HTTP status and whether a retry can help.
///
/// The API maps each kind to one status in one place; libraries only say which kind an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's input is wrong (400).
    InvalidParameter,
    /// A credential is missing or wrong (401).
    Unauthorized,
    /// Understood, and refused by policy (403).
    Forbidden,
    /// The named object does not exist (404).
    NotFound,
    /// The object is in a state that does not allow it, or the name is taken (409).
    Conflict,
    /// Nothing to do: it already is as asked (304).
    NotModified,
    /// Not built (501).
    NotImplemented,
    /// A precondition outside the request is missing, for example this node is not a manager (503).
    Unavailable,
    /// Our fault or the machine's (500).
    System,
}

/// An error that knows its [`ErrorKind`].
pub trait Classified: std::error::Error {
    /// The class of this error.
    fn kind(&self) -> ErrorKind;
}
