//! What can go wrong with tokens, certificates and joining.

use std::net::SocketAddr;
use std::path::PathBuf;

use weft_types::{Classified, ErrorKind};

/// Why a join token is not one. Nothing was contacted or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of the form `SWMTKN-1-<digest>-<secret>` (or its FIPS form).
    #[error("invalid join token")]
    Malformed,
    /// The token is well formed and belongs to another root certificate: wrong swarm, or someone in between.
    #[error("remote CA does not match fingerprint. Expected: {expected}")]
    DigestMismatch {
        /// Digest that the token demands, in hexadecimal.
        expected: String,
    },
    /// The swarm demands FIPS 140 cryptography, which this build does not claim.
    #[error("the join token belongs to a swarm that requires FIPS mode")]
    FipsRequired,
}

impl Classified for TokenError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// Why a certificate, key or request is not usable. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Text that is no PEM, or has no block of the wanted kind.
    #[error("no PEM block of a {0} found")]
    NotPem(&'static str),
    /// PEM around something that is no X.509.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A root that is not a valid self-signed CA with an accepted signature algorithm.
    #[error("not a usable root certificate: {0}")]
    UnusableRoot(&'static str),
    /// The subject does not say node, role and swarm as SwarmKit wants it.
    #[error("certificate subject has no valid {0}")]
    Subject(&'static str),
    /// The key is not the one in the certificate.
    #[error("private key does not belong to the certificate")]
    KeyMismatch,
    /// Expired, foreign, or not for this use.
    #[error("certificate is not valid under the swarm's root")]
    Untrusted {
        /// What the verifier found.
        #[source]
        source: rustls::Error,
    },
    /// TLS configuration refused by the library: key or certificate of an unsupported kind.
    #[error("certificate or key cannot be used for TLS")]
    Tls {
        /// What the library found.
        #[source]
        source: rustls::Error,
    },
    /// Making or signing failed.
    #[error("cannot {action}")]
    Generate {
        /// What was tried.
        action: &'static str,
        /// What the library found.
        #[source]
        source: rcgen::Error,
    },
}

impl Classified for CertificateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Generate { .. } => ErrorKind::System,
            _ => ErrorKind::InvalidParameter,
        }
    }
}

/// Why the identity on disk could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none: this machine is in no swarm.
    #[error("no node identity in {}", .0.display())]
    Missing(PathBuf),
    /// Reading or writing failed; what was stored before is unchanged.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is there and is not ours, or is damaged.
    #[error("{} is not a node identity", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The file was written by a newer version.
    #[error("{} has format {found}, this version reads {known}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Format of the file.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// The private key is sealed, and not with what was given to open it.
    #[error("the private key in {} is sealed", .0.display())]
    Sealed(PathBuf),
    /// The stored certificate, key or root is damaged.
    #[error("node identity in {} is damaged", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
}

impl Classified for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing(_) => ErrorKind::Unavailable,
            _ => ErrorKind::System,
        }
    }
}

/// Why joining or renewal did not give a certificate. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is malformed or does not match the manager's root.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The manager sent something unusable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The manager cannot be reached, or is no swarm manager.
    #[error(
        "rpc error: code = Unavailable desc = connection error: desc = \"transport: {}\"",
        transport_failure(*address, source)
    )]
    Unreachable {
        /// Its address.
        address: SocketAddr,
        /// What was said on the way.
        #[source]
        source: tonic::Status,
    },
    /// The manager refused.
    #[error("rpc error: code = {code} desc = {message}", code = .0.code_name(), message = .0.message())]
    Refused(Refusal),
    /// The manager did not issue the certificate in time.
    #[error(
        "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the \"docker info\" command to see the current swarm status of your node."
    )]
    Timeout,
    /// The manager gave a certificate that was made for another node or swarm.
    #[error("the manager issued a certificate for {found} instead of {expected}")]
    WrongSubject {
        /// What it was to be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The new identity is good and could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classified for JoinError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Token(error) => error.kind(),
            Self::Certificate(error) => error.kind(),
            Self::Refused(refusal) => match refusal.0.code() {
                tonic::Code::InvalidArgument => ErrorKind::InvalidParameter,
                tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => ErrorKind::Forbidden,
                _ => ErrorKind::Unavailable,
            },
            Self::Unreachable { .. } | Self::Timeout => ErrorKind::Unavailable,
            Self::WrongSubject { .. } => ErrorKind::System,
            Self::Store(error) => error.kind(),
        }
    }
}

/// What went wrong on the way, as Docker's client library words it.
fn transport_failure(address: SocketAddr, status: &tonic::Status) -> String {
    use std::io::ErrorKind as Io;
    let mut cause = std::error::Error::source(status);
    let mut failed = None;
    while let Some(error) = cause {
        failed = error.downcast_ref::<std::io::Error>().or(failed);
        cause = error.source();
    }
    let words = match failed.map(std::io::Error::kind) {
        Some(Io::ConnectionRefused) => "connect: connection refused",
        Some(Io::HostUnreachable) => "connect: no route to host",
        Some(Io::NetworkUnreachable) => "connect: network is unreachable",
        Some(Io::TimedOut) => "i/o timeout",
        _ => {
            let text = failed.map_or_else(|| status.message().to_owned(), ToString::to_string);
            return format!("authentication handshake with {address} failed: {text}");
        }
    };
    format!("Error while dialing: dial tcp {address}: {words}")
}

/// A refusal by the manager, shown as gRPC's own clients show it.
#[derive(Debug, Clone)]
pub struct Refusal(pub tonic::Status);

impl Refusal {
    fn message(&self) -> &str {
        self.0.message()
    }

    /// The code in the spelling of the Go library, which users of Docker know from its messages.
    fn code_name(&self) -> String {
        format!("{:?}", self.0.code())
    }
}
