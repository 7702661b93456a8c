//! Rules of service specs, in SwarmKit's words.

use weft_orchestration::AllocateError;
use weft_types::ErrorKind;

/// A service spec breaks a rule. Nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ServiceProblem {
    /// A rule of names.
    #[error(transparent)]
    Name(crate::error::SpecProblem),
    /// A container or task is missing.
    #[error("TaskSpec: missing runtime")]
    MissingRuntime,
    /// Plugins and other runtimes are not run.
    #[error("RuntimeSpec: unimplemented runtime in service spec")]
    Runtime,
    /// Below SwarmKit's least share.
    #[error("invalid cpu value {0}: Must be at least 0.001")]
    Cpu(f64),
    /// Below SwarmKit's least memory.
    #[error("invalid memory value {0}: Must be at least 4MiB")]
    Memory(i64),
    /// A duration that must not be negative.
    #[error("TaskSpec: {0} cannot be negative")]
    Negative(&'static str),
    /// A ratio outside of 0 to 1.
    #[error("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")]
    FailureRatio,
    /// Not a constraint.
    #[error(transparent)]
    Constraint(#[from] weft_orchestration::ConstraintError),
    /// A placeholder that nobody can fill in.
    #[error(transparent)]
    Placeholder(#[from] weft_orchestration::PlaceholderMistake),
    /// No image.
    #[error("ContainerSpec: image reference must be provided")]
    NoImage,
    /// Not the name of an image.
    #[error("ContainerSpec: {0:?} is not a valid repository/tag")]
    Image(String),
    /// Two mounts in one place.
    #[error("ContainerSpec: duplicate mount point: {0}")]
    DuplicateMount(String),
    /// A duration of a health check below a millisecond.
    #[error("ContainerSpec: {0} in HealthConfig cannot be less than 1ms")]
    HealthDuration(&'static str),
    /// Health checks cannot fail less than never.
    #[error("ContainerSpec: Retries in HealthConfig cannot be negative")]
    HealthRetries,
    /// A reference to a secret or config lacks its id or name.
    #[error("malformed {0} reference")]
    Reference(&'static str),
    /// A reference to a secret or config lacks its target.
    #[error("malformed {0} reference, no target provided")]
    ReferenceTarget(&'static str),
    /// A reference to a secret or config lacks its file name.
    #[error("malformed file {0} reference, invalid target file name provided")]
    ReferenceFile(&'static str),
    /// Two files in one place.
    #[error("{kind} references '{first}' and '{second}' have a conflicting target: '{file}'")]
    ConflictingTarget {
        /// Secret or config.
        kind: &'static str,
        /// Name of the first.
        first: String,
        /// Name of the second.
        second: String,
        /// Where both want to be.
        file: String,
    },
    /// Secrets or configs that do not exist.
    #[error("{kind}{} not found: {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))]
    Unknown {
        /// Secret or config.
        kind: &'static str,
        /// Their names.
        names: Vec<String>,
    },
    /// Nothing is balanced where there is no virtual address.
    #[error("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")]
    IngressPortWithoutVip,
    /// A port of the container that is none.
    #[error("EndpointSpec: invalid target port: {0}")]
    TargetPort(u32),
    /// One port twice.
    #[error("EndpointSpec: duplicate published ports provided")]
    DuplicatePorts,
    /// A port of another service, or one that cannot be.
    #[error(transparent)]
    Ports(Box<AllocateError>),
    /// Ingress is for published ports.
    #[error("Service cannot be explicitly attached to the ingress network {0:?}")]
    OnIngress(String),
    /// No mode, or one that we do not know.
    #[error("Unrecognized service mode")]
    Mode,
    /// A number that was negative at its origin.
    #[error("{0}")]
    NegativeCount(&'static str),
    /// Jobs are replaced at once.
    #[error("Jobs may not have an update config")]
    JobUpdate,
    /// A mode is for life.
    #[error("service mode change is not allowed")]
    ModeChange,
    /// A name is for life.
    #[error("renaming services is not supported")]
    Rename,
    /// Old-style networks are changed in the task's spec.
    #[error("networks must be migrated to TaskSpec before being changed")]
    NetworkUpdate,
}

impl From<AllocateError> for ServiceProblem {
    fn from(error: AllocateError) -> Self {
        Self::Ports(Box::new(error))
    }
}

impl ServiceProblem {
    /// SwarmKit's status code, which Docker shows.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Constraint(_) => "Unknown",
            Self::Runtime | Self::ModeChange | Self::Rename | Self::NetworkUpdate => "Unimplemented",
            _ => "InvalidArgument",
        }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self.code() {
            "Unknown" => ErrorKind::System,
            "Unimplemented" => ErrorKind::NotImplemented,
            _ => ErrorKind::InvalidParameter,
        }
    }
}
