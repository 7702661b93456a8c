//! What can go wrong with a lab.

use std::path::PathBuf;
use std::time::Duration;

/// A lab operation that failed. What was made before it stays on record and goes with the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A name that cannot be part of an interface name.
    #[error("{0:?} cannot name a lab: want 1 to 8 letters, digits or dashes")]
    Name(String),
    /// Too few or too many hosts.
    #[error("a lab has 1 to 100 hosts, not {0}")]
    Hosts(usize),
    /// A lab of this name exists.
    #[error("lab {0} is up already: use it, or remove it with 'weft lab down --name {0}'")]
    Exists(String),
    /// No lab of this name exists.
    #[error("no lab {0}: start one with 'weft lab up --name {0}'")]
    NoLab(String),
    /// No such host in this lab.
    #[error("lab {lab} has no host {host}; there are {known}")]
    NoHost {
        /// Name of the lab.
        lab: String,
        /// Name that was asked for.
        host: String,
        /// Names there are.
        known: String,
    },
    /// No busybox to make the image from.
    #[error("no statically linked busybox on the PATH: install one ('apt-get install busybox-static')")]
    NoBusybox,
    /// A program could not be started.
    #[error("start {program}: {source}")]
    Start {
        /// The program and its arguments.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program}: {status}: {output}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// Its exit status.
        status: String,
        /// What it wrote.
        output: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The record of a lab is damaged.
    #[error("the record of the lab in {path} is damaged: {source}")]
    Record {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A daemon ended instead of starting to serve.
    #[error("the daemon of {host} ended at its start:\n{log}")]
    Ended {
        /// Name of the host.
        host: String,
        /// The end of its log.
        log: String,
    },
    /// A condition did not become true in time.
    #[error("{what} did not happen within {deadline:?}{detail}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// For how long.
        deadline: Duration,
        /// More, for example the end of a log.
        detail: String,
    },
}
