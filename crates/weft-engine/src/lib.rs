//! Local containers: images, bundles, runtime, shim, exec, logs.
//!
//! Three kinds of process take part. The daemon holds an [`Engine`]. Each container has a *shim*, this program
//! started again by [`shim_main`]: single-threaded, it owns the container's streams, log and exit status and outlives
//! the daemon. Each create and exec runs in a short-lived *runtime* child of the shim ([`runtime_main`]): only there
//! is libcontainer called.

mod below;
mod blocking;
mod byte_pipe;
mod cgroup;
mod config;
mod container;
mod engine;
mod error;
mod events;
mod executor;
mod files;
mod image;
mod limits;
mod names;
mod network;
mod network_controller;
mod options;
mod ports;
mod runtime;
mod shim;
mod shim_client;
mod spec;
mod stats;
mod volumes;

pub use config::{EngineConfig, Reexec};
pub use container::health::HealthStatus;
pub use engine::{Engine, StatsStream};
pub use error::{EngineError, LoginFailure, PullFailure, PushFailure};
pub use events::{Event, EventType};
pub use files::{Change, ChangeKind, PathStat};
pub use image::{
    DistributionInspect, Images, Progress, ProgressDetail, ProgressSink, PullOptions, Pushed, RegistryAuth,
    ServedPlatform,
};
pub use names::random_name;
pub use network::{ContainerNetwork, NetworkFailure, SandboxKind, SandboxSpec, SandboxView};
pub use options::{
    AttachOptions, AttachedStreams, ByteStream, CommitOptions, Created, ExecStartOptions, ExtractOptions,
    Filters, ListOptions, LogOptions, LogStream, OutputStream, RemoveOptions, StopOptions, StreamKind,
    WaitCondition, WaitFuture, WaitResult,
};
pub use runtime::runtime_main;
pub use shim::shim_main;
pub use stats::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats,
    ThrottlingData,
};
pub use volumes::{Volume, Volumes};
