//! Connections to tasks that are gone: reset, so that nobody waits for them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::errno::Errno;
use nix::libc;

use super::ConnectError;
use crate::Netns;
use crate::elements::attribute;
use crate::socket::{Attributes, NetlinkSocket, Refusal};

/// Messages and attributes (linux/sock_diag.h, linux/inet_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;
/// `struct inet_diag_msg`, and where `struct inet_diag_sockid` is in it.
const MESSAGE_LEN: usize = 72;
const ID: std::ops::Range<usize> = 4..52;
/// States that wait for the other end: `TCP_ESTABLISHED` and `TCP_SYN_SENT`. Others know already that it has ended.
const STATES: u32 = 1 << 1 | 1 << 2;
/// What the programs keep of a socket (`struct peer`).
const PEER_LEN: usize = 32;

/// A virtual IP, and the task that a socket got for it.
pub(super) type Pair = (Ipv6Addr, Ipv6Addr);

/// A socket as the kernel lists it.
struct Found {
    family: u8,
    id: [u8; 48],
    /// The peer on the wire, as IPv6 or mapped.
    peer: Ipv6Addr,
    got: Pair,
}

/// Resets those connections of a namespace that programs took from a virtual IP to one of these tasks; gives their number.
/// Kernels without `CONFIG_INET_DIAG_DESTROY` leave them to TCP's own patience.
pub(super) fn reset(
    netns: &Netns,
    peers: BorrowedFd<'_>,
    gone: &BTreeSet<Pair>,
) -> Result<usize, ConnectError> {
    let mut socket = NetlinkSocket::open(netns, NETLINK_SOCK_DIAG)?;
    let mut count = 0;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut request = diag_request(family, &[0; 48]);
        let mut map = Vec::new();
        attribute(&mut map, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &peers.as_raw_fd().to_ne_bytes());
        attribute(&mut request, INET_DIAG_REQ_SK_BPF_STORAGES, &map);
        let listed = socket.request_raw(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request);
        let listed = listed.map_err(refused("list connections"))?;
        for found in listed.iter().filter_map(|message| parse(message)) {
            if found.peer != found.got.1 || !gone.contains(&found.got) {
                continue;
            }
            match socket.request_raw(SOCK_DESTROY, NLM_F_ACK, &diag_request(found.family, &found.id)) {
                Ok(_) => count += 1,
                Err(refusal) => match refusal.errno().map(Errno::from_raw) {
                    // Closed meanwhile.
                    Some(Errno::ENOENT) => {}
                    Some(Errno::EOPNOTSUPP) => return Ok(count),
                    _ => return Err(refused("reset a connection")(refusal)),
                },
            }
        }
    }
    Ok(count)
}

fn refused(what: &'static str) -> impl FnOnce(Refusal) -> ConnectError {
    move |refusal| refusal.of(what).into()
}

/// `struct inet_diag_req_v2`.
fn diag_request(family: u8, id: &[u8; 48]) -> Vec<u8> {
    let mut request = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
    request.extend(STATES.to_ne_bytes());
    request.extend(id);
    request
}

/// A socket that programs have taken to a task; none for others, and what is no such message.
fn parse(message: &[u8]) -> Option<Found> {
    let id: [u8; 48] = message.get(ID)?.try_into().ok()?;
    let storages =
        Attributes(message.get(MESSAGE_LEN..)?).find(|(kind, _)| *kind == INET_DIAG_SK_BPF_STORAGES)?.1;
    let storage = Attributes(storages).find(|(kind, _)| *kind == SK_DIAG_BPF_STORAGE)?.1;
    let peer = Attributes(storage).find(|(kind, _)| *kind == SK_DIAG_BPF_STORAGE_MAP_VALUE)?.1;
    let peer: [u8; PEER_LEN] = peer.get(..PEER_LEN)?.try_into().ok()?;
    let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from);
    let family = *message.first()?;
    // Ports, then the own address, then the peer's.
    let on_the_wire = if libc::c_int::from(family) == libc::AF_INET {
        Ipv4Addr::from(<[u8; 4]>::try_from(&id[20..24]).ok()?).to_ipv6_mapped()
    } else {
        address(&id[20..36])?
    };
    Some(Found { family, id, peer: on_the_wire, got: (address(&peer[..16])?, address(&peer[16..])?) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_message_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }

        #[test]
        fn a_socket_is_read_with_what_it_asked_for(id in prop::collection::vec(any::<u8>(), 48), peer: [u8; 32]) {
            let mut message = vec![0; MESSAGE_LEN];
            message[0] = libc::AF_INET6 as u8;
            message[ID].copy_from_slice(&id);
            let nested = |kind, value: &[u8]| {
                let mut out = Vec::new();
                attribute(&mut out, kind, value);
                out
            };
            let storage = nested(SK_DIAG_BPF_STORAGE, &nested(SK_DIAG_BPF_STORAGE_MAP_VALUE, &peer));
            message.extend(nested(INET_DIAG_SK_BPF_STORAGES, &storage));
            let found = parse(&message).unwrap();
            prop_assert_eq!(&found.id[..], &id[..]);
            prop_assert_eq!(&found.peer.octets()[..], &id[20..36]);
            prop_assert_eq!(found.got.0.octets(), &peer[..16]);
            prop_assert_eq!(found.got.1.octets(), &peer[16..]);
        }
    }
}
