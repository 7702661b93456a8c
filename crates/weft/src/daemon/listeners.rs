//! The sockets that the API is served at.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::config::Listen;

/// Group that may use the API when no other is named and it exists, as with dockerd.
const DEFAULT_GROUP: &str = "docker";
/// Owner and group may read and write; everybody else may not even connect.
const SOCKET_MODE: u32 = 0o660;
/// Whoever may write there gets a place on every network.
const PLUGIN_SOCKET_MODE: u32 = 0o600;

/// A bound socket.
#[derive(Debug)]
pub(super) enum Bound {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error("another daemon answers at {0}: stop it or choose another -H")]
    InUse(PathBuf),
    #[error("listen at {address}: {source}")]
    Bind { address: String, source: std::io::Error },
    #[error("group {0:?} does not exist: create it or choose another --group")]
    NoGroup(String),
}

/// Binds the address that metrics are to be had at.
pub(super) fn bind_metrics(address: std::net::SocketAddr) -> Result<TcpListener, ListenError> {
    tcp(&address.to_string())
}

/// Binds all addresses or none.
pub(super) fn bind(hosts: &[Listen], group: Option<&str>) -> Result<Vec<Bound>, ListenError> {
    hosts
        .iter()
        .map(|host| match host {
            Listen::Unix(path) => unix(path, group).map(Bound::Unix),
            Listen::Tcp(address) => tcp(address).map(Bound::Tcp),
        })
        .collect()
}

fn tcp(address: &str) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(address)
        .map_err(|source| ListenError::Bind { address: format!("tcp://{address}"), source })?;
    nonblocking(listener.set_nonblocking(true), || format!("tcp://{address}"))?;
    Ok(listener)
}

/// Binds a socket that is for root alone.
pub(super) fn bind_plugin(path: &Path) -> Result<UnixListener, ListenError> {
    unix_alone(path, PLUGIN_SOCKET_MODE)
}

fn unix(path: &Path, group: Option<&str>) -> Result<UnixListener, ListenError> {
    let listener = unix_alone(path, SOCKET_MODE)?;
    if let Some(gid) = group_id(group)? {
        std::os::unix::fs::chown(path, Some(0), Some(gid))
            .map_err(|source| ListenError::Bind { address: format!("unix://{}", path.display()), source })?;
    }
    Ok(listener)
}

/// A unix socket in the place of one that nobody answers at any more.
fn unix_alone(path: &Path, mode: u32) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Bind { address: format!("unix://{}", path.display()), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse(path.to_owned()));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    nonblocking(listener.set_nonblocking(true), || format!("unix://{}", path.display()))?;
    Ok(listener)
}

fn nonblocking(outcome: std::io::Result<()>, address: impl Fn() -> String) -> Result<(), ListenError> {
    outcome.map_err(|source| ListenError::Bind { address: address(), source })
}

/// A named group must exist; the default one need not.
fn group_id(group: Option<&str>) -> Result<Option<u32>, ListenError> {
    let name = group.unwrap_or(DEFAULT_GROUP);
    let found = nix::unistd::Group::from_name(name).ok().flatten().map(|g| g.gid.as_raw());
    match (found, group) {
        (None, Some(name)) => Err(ListenError::NoGroup(name.to_owned())),
        (found, _) => Ok(found),
    }
}
