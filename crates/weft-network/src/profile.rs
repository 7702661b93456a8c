//! What a node's data path is tuned for.

use std::fmt;
use std::str::FromStr;

use crate::choice;

/// What the option says about the interface of the data path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// Left as it is: short ways, many connections.
    #[default]
    Default,
    /// Packets are shared among all processors, so that a single stream is not held by one. Takes more time for each
    /// packet and each connection.
    Bulk,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Bulk => "bulk",
        })
    }
}

impl FromStr for Profile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        choice::parse(text, &[Self::Default, Self::Bulk])
    }
}
