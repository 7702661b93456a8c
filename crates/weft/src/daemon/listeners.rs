//! The sockets that the API is served at.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

use super::config::{Inherited, Listen};

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
    /// dockerd's words.
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NotActivated,
    #[error("failed to listen on fd {0}: too few socket activated files passed in by systemd")]
    TooFewInherited(usize),
    #[error("the service manager gave us a socket at which no API can be served: {0}")]
    Strange(std::io::Error),
}

/// Number of the first file descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST_INHERITED: usize = 3;

/// The sockets that a service manager opened for this process.
///
/// Taken out of the environment, where the daemon's children would find them: before there are threads.
pub(super) struct Activation(Vec<Option<Bound>>);

impl Activation {
    /// Takes all of them. Those that nobody listens at later are closed.
    pub(super) fn take() -> Result<Self, ListenError> {
        let mut given = ListenFd::from_env();
        let sockets = (0..given.len()).map(|at| match given.take_unix_listener(at) {
            Ok(listener) => Ok(listener.map(Bound::Unix)),
            Err(_) => given.take_tcp_listener(at).map(|listener| listener.map(Bound::Tcp)),
        });
        sockets.collect::<Result<_, _>>().map(Self).map_err(ListenError::Strange)
    }

    fn listen(&mut self, which: Inherited) -> Result<Vec<Bound>, ListenError> {
        if self.0.is_empty() {
            return Err(ListenError::NotActivated);
        }
        let bound: Vec<Bound> = match which {
            Inherited::All => self.0.iter_mut().filter_map(Option::take).collect(),
            Inherited::One(number) => {
                let place = number.checked_sub(FIRST_INHERITED).and_then(|at| self.0.get_mut(at));
                vec![place.and_then(Option::take).ok_or(ListenError::TooFewInherited(number))?]
            }
        };
        for socket in &bound {
            let outcome = match socket {
                Bound::Unix(listener) => listener.set_nonblocking(true),
                Bound::Tcp(listener) => listener.set_nonblocking(true),
            };
            nonblocking(outcome, || "fd://".to_owned())?;
        }
        Ok(bound)
    }
}

/// Binds the address that metrics are to be had at.
pub(super) fn bind_metrics(address: std::net::SocketAddr) -> Result<TcpListener, ListenError> {
    tcp(&address.to_string())
}

/// Binds all addresses or none.
pub(super) fn bind(
    hosts: &[Listen],
    group: Option<&str>,
    activation: &mut Activation,
) -> Result<Vec<Bound>, ListenError> {
    let mut bound = Vec::new();
    for host in hosts {
        match host {
            Listen::Unix(path) => bound.push(Bound::Unix(unix(path, group)?)),
            Listen::Tcp(address) => bound.push(Bound::Tcp(tcp(address)?)),
            Listen::Inherited(which) => bound.extend(activation.listen(*which)?),
        }
    }
    Ok(bound)
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
