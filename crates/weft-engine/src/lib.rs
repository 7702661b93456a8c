//! Local containers: images, bundles, runtime, shim, exec, logs.
//!
//! Three kinds of process take part. The daemon holds an [`Engine`]. Each container has a *shim*, this program
//! started again by [`shim_main`]: single-threaded, it owns the container's streams, log and exit status and outlives
//! the daemon. Each create and exec runs in a short-lived *runtime* child of the shim ([`runtime_main`]): only there
//! is libcontainer called.

mod config;
mod engine;
mod error;
mod events;
mod image;
mod network;
mod options;

pub use config::{EngineConfig, Reexec};
pub use engine::Engine;
pub use error::EngineError;
pub use events::{Event, EventType};
pub use image::Images;
pub use network::{ContainerNetwork, NetworkFailure, SandboxKind, SandboxRequest, SandboxView};
pub use options::{
    AttachOptions, AttachedStreams, ByteStream, Created, ExecStartOptions, Filters, ListOptions, LogOptions,
    LogStream, OutputStream, RemoveOptions, StopOptions, StreamKind, WaitCondition, WaitFuture, WaitResult,
};

/// Entry point of `weft shim …`. The caller has created no thread.
pub fn shim_main(args: &[std::ffi::OsString]) -> ! {
    let _ = args;
    std::process::exit(1)
}

/// Entry point of `weft runtime …`. The caller has created no thread.
pub fn runtime_main(args: &[std::ffi::OsString]) -> ! {
    let _ = args;
    std::process::exit(1)
}
