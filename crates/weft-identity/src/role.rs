//! What a node may be in the swarm.

use std::fmt;
use std::str::FromStr;

use weft_wire::swarmkit;

use crate::CertificateError;

/// Role of a node, carried as organisational unit of its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeRole {
    /// Runs tasks.
    Worker,
    /// Runs tasks and decides.
    Manager,
}

impl NodeRole {
    /// Both roles: who may call a worker's services.
    pub const ANY: [Self; 2] = [Self::Worker, Self::Manager];

    /// The text in certificates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "swarm-worker",
            Self::Manager => "swarm-manager",
        }
    }

    /// The role in SwarmKit's messages.
    pub const fn to_wire(self) -> swarmkit::NodeRole {
        match self {
            Self::Worker => swarmkit::NodeRole::Worker,
            Self::Manager => swarmkit::NodeRole::Manager,
        }
    }
}

impl From<swarmkit::NodeRole> for NodeRole {
    fn from(role: swarmkit::NodeRole) -> Self {
        match role {
            swarmkit::NodeRole::Worker => Self::Worker,
            swarmkit::NodeRole::Manager => Self::Manager,
        }
    }
}

impl FromStr for NodeRole {
    type Err = CertificateError;
    fn from_str(text: &str) -> Result<Self, CertificateError> {
        match text {
            "swarm-worker" => Ok(Self::Worker),
            "swarm-manager" => Ok(Self::Manager),
            _ => Err(CertificateError::Subject("role")),
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
