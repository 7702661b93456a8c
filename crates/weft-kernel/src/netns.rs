//! Network namespaces.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};
use weft_plan::NamespaceRef;

use crate::socket::NetlinkSocket;
use crate::{NetnsError, message};

/// `lo` is made with the namespace, first of all (`LOOPBACK_IFINDEX`).
const LOOPBACK_INDEX: u32 = 1;

/// Type of the file system of namespace files (`NSFS_MAGIC`, linux/magic.h).
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// An open network namespace. It lives at least as long as this value, also when its file is removed.
#[derive(Debug, Clone)]
pub struct Netns {
    file: Arc<File>,
    path: PathBuf,
}

impl Netns {
    /// Makes a namespace with `lo` up and pins it at `path`, whose folder is made too. Leaves nothing behind on failure.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(step(path, "make its folder"))?;
        }
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(NetnsError::Exists { path: path.to_owned() });
            }
            Err(e) => return Err(step(path, "make its file")(e)),
        }
        let made = || {
            pin_new(path)?;
            let netns = Self::open(path)?;
            netns.raise_loopback()?;
            Ok(netns)
        };
        let pinned = made();
        if pinned.is_err() {
            let _ = Self::remove(path);
        }
        pinned
    }

    /// Makes a namespace with `lo` up and without a name: it ends with this value and its processes.
    pub fn anonymous() -> Result<Self, NetnsError> {
        let path = Path::new("anonymous");
        let make = || -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        };
        let made = thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, make)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let file = made.map_err(step(path, "create"))?;
        // Good for this process, and for others while it lives.
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let netns = Self { file: Arc::new(file), path: path.into() };
        netns.raise_loopback()?;
        Ok(netns)
    }

    /// A new namespace without a working `lo` is a trap: there a socket can be bound to 127.0.0.11, but the kernel, which
    /// has no local routes yet, takes the address for a broadcast one and forgets it, and answers leave from 127.0.0.1.
    fn raise_loopback(&self) -> Result<(), NetnsError> {
        let up = weft_plan::LinkChange::Up(true);
        let message = RouteNetlinkMessage::NewLink(message::change_link(LOOPBACK_INDEX, &up, 0));
        let raised =
            NetlinkSocket::open(self, NETLINK_ROUTE).map_err(io::Error::other).and_then(|mut socket| {
                socket.request(message, 0).map_err(|refusal| io::Error::other(refusal.of("lo up")))
            });
        raised.map(|_| ()).map_err(step(&self.path, "raise its loopback"))
    }

    /// Opens the namespace pinned at `path`, or any other namespace file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(step(path, "open"))?;
        let kind = fstatfs(&file).map_err(|e| step(path, "inspect")(e.into()))?.filesystem_type();
        if kind != NSFS_MAGIC {
            return Err(NetnsError::NotANamespace { path: path.to_owned() });
        }
        Ok(Self { file: Arc::new(file), path: path.to_owned() })
    }

    /// Pins this namespace at another path too, whose folder is made, with `lo` up: it then outlives all its other files and
    /// processes. Leaves nothing behind on failure.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(step(path, "make its folder"))?;
        }
        OpenOptions::new().write(true).create_new(true).open(path).map_err(step(path, "make its file"))?;
        let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let mounted = mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        let pinned = mounted.map_err(|e| step(path, "pin")(e.into())).and_then(|()| {
            let netns = Self::open(path)?;
            netns.raise_loopback()?;
            Ok(netns)
        });
        if pinned.is_err() {
            let _ = Self::remove(path);
        }
        pinned
    }

    /// The namespace of a process.
    pub fn of_process(pid: u32) -> Result<Self, NetnsError> {
        Self::open(format!("/proc/{pid}/ns/net"))
    }

    /// The namespace of this process.
    pub fn host() -> Result<Self, NetnsError> {
        Self::resolve(&NamespaceRef::host())
    }

    /// The namespace that a plan names.
    pub fn resolve(namespace: &NamespaceRef) -> Result<Self, NetnsError> {
        Self::open(&namespace.0)
    }

    /// Unpins the namespace at `path`; it ends when its last process and file are gone. Nothing there is fine.
    pub fn remove(path: impl AsRef<Path>) -> Result<(), NetnsError> {
        let path = path.as_ref();
        match umount2(path, MntFlags::MNT_DETACH) {
            // EINVAL: a file, but nothing mounted on it.
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(e) => return Err(step(path, "unmount")(e.into())),
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(step(path, "remove its file")(e)),
            _ => Ok(()),
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It, as plans name it.
    pub fn reference(&self) -> NamespaceRef {
        NamespaceRef::at(&self.path)
    }

    /// A number that tells namespaces apart (the inode of the namespace file).
    pub fn id(&self) -> Result<u64, NetnsError> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata().map_err(step(&self.path, "inspect"))?.ino())
    }

    /// Runs `work` in the namespace, on a fresh thread, and waits for it. Short work only: the caller blocks.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let entered = thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || setns(&*self.file, CloneFlags::CLONE_NEWNET).map(|()| work()))?;
            // A panic of `work` is the caller's.
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(io::Error::from)
        });
        entered.map_err(step(&self.path, "enter"))
    }

    /// A UDP socket bound in the namespace, not blocking.
    pub fn udp_socket(&self, address: SocketAddr) -> Result<UdpSocket, NetnsError> {
        let socket = self.run_in(|| {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        socket.map_err(step(&self.path, "bind a UDP socket"))
    }

    /// A TCP listener in the namespace, not blocking.
    pub fn tcp_listener(&self, address: SocketAddr) -> Result<TcpListener, NetnsError> {
        let socket = self.run_in(|| {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        socket.map_err(step(&self.path, "bind a TCP socket"))
    }

    /// Any socket: what `open` makes in the namespace.
    pub fn socket_in<S: Send>(&self, open: impl FnOnce() -> io::Result<S> + Send) -> Result<S, NetnsError> {
        self.run_in(open)?.map_err(step(&self.path, "open a socket"))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn step(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> NetnsError {
    let path = path.to_owned();
    move |source| NetnsError::Step { path, step, source }
}

/// A new namespace exists only as that of the thread that made it, until its file is bind-mounted.
fn pin_new(path: &Path) -> Result<(), NetnsError> {
    let pin = || -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    };
    let pinned = thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, pin)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    pinned.map_err(step(path, "create"))
}
