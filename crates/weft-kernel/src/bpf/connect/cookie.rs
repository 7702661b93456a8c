//! Cookies of network namespaces: numbers that, other than those of their files, never come again.

use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use weft_plan::NamespaceRef;

use super::{ConnectError, unsupported};
use crate::Netns;

/// asm-generic/socket.h, Linux 5.14; a `u64`.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the namespace that a socket is in.
#[allow(unsafe_code, reason = "an option of sockets that no library has")]
fn of_socket(socket: impl AsFd) -> io::Result<u64> {
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes no more than `length` bytes to `cookie`, which has as many; both live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// The cookies of those namespaces that are there, asked for by one thread that ends with it.
pub(super) fn cookies<'a>(
    namespaces: impl Iterator<Item = &'a NamespaceRef> + Send,
) -> Result<BTreeMap<NamespaceRef, u64>, ConnectError> {
    let cookie = |namespace: &NamespaceRef| -> Option<io::Result<u64>> {
        let netns = Netns::resolve(namespace).ok()?;
        let entered = setns(&netns, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        // Not bound to anything, it needs no interface.
        Some(entered.and_then(|()| UdpSocket::bind("0.0.0.0:0")).and_then(of_socket))
    };
    let ask = || {
        let found = namespaces.filter_map(|name| Some((name.clone(), cookie(name)?)));
        found.map(|(name, cookie)| Ok((name, cookie?))).collect::<io::Result<BTreeMap<_, _>>>()
    };
    let asked = thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, ask)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    asked.map_err(|error| unsupported(format!("cookies of network namespaces (Linux 5.14): {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_has_its_own() {
        let (one, two) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
        let names = [one.reference(), two.reference(), NamespaceRef::at("/nowhere")];
        let found = cookies(names.iter()).unwrap();
        assert_eq!(found.len(), 2);
        assert_ne!(found[&names[0]], found[&names[1]]);
        assert_eq!(found, cookies(names.iter()).unwrap());
    }
}
