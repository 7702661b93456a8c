//! Files of a container for those outside of it: copying both ways, and its whole tree as an archive.
//!
//! A container is not trusted: it may change links and swap files while somebody copies. So a path is only ever
//! resolved by the kernel below the container's root (`RESOLVE_IN_ROOT`), an archive is written from directories that
//! are held open, and nothing but a regular file is opened for its content.

pub(crate) mod changes;
mod namespace;
pub(crate) mod pack;
pub(crate) mod path;
pub(crate) mod turn;
pub(crate) mod view;

pub use self::changes::{Change, ChangeKind};
pub use self::path::PathStat;
