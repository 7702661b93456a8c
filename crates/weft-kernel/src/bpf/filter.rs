//! Programs as filters of the `clsact` queueing discipline: what kernels before 6.6 have in place of tcx.
//!
//! A filter of ours has a fixed priority and handle on each interface, so replacing it is one request, and so is
//! looking whether it is there.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use nix::errno::Errno;

use super::programs::Program;
use super::{FastPathError, object};
use crate::elements::attribute;
use crate::socket::{Attributes, NetlinkSocket, Refusal};

/// Messages and attributes (linux/rtnetlink.h, linux/pkt_cls.h).
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// The program's return value is the verdict.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// `clsact` as a parent, and its ingress (linux/pkt_sched.h).
const CLSACT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const ETH_P_ALL: u16 = 3;
/// `struct tcmsg`.
const TCMSG_LEN: usize = 20;

/// Ours among the filters of an interface. Lower priorities run first; what others put before us runs before us.
const PRIORITY: u16 = 48_879;
const HANDLE: u32 = 0x5745_4654;

fn message(interface: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [interface, handle, parent, info] {
        body.extend(word.to_ne_bytes());
    }
    body
}

fn ours(interface: u32) -> Vec<u8> {
    let info = u32::from(PRIORITY) << 16 | u32::from(ETH_P_ALL.to_be());
    message(interface, HANDLE, INGRESS, info)
}

fn refused(what: String) -> impl FnOnce(Refusal) -> FastPathError {
    move |refusal| refusal.of(what).into()
}

/// Puts the program on an interface's ingress, in place of what of ours is there.
pub(super) fn attach(
    socket: &mut NetlinkSocket,
    interface: u32,
    name: &str,
    program: &Program,
) -> Result<(), FastPathError> {
    let mut qdisc = message(interface, CLSACT_HANDLE, CLSACT, 0);
    attribute(&mut qdisc, TCA_KIND, b"clsact\0");
    match socket.request_raw(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &qdisc) {
        Err(refusal) if refusal.errno() != Some(Errno::EEXIST as i32) => {
            return Err(refused(format!("add clsact to interface {interface}"))(refusal));
        }
        _ => {}
    }
    let fd = program.classifier.fd().map_err(object("a program's descriptor"))?.as_fd().as_raw_fd();
    let mut options = Vec::new();
    attribute(&mut options, TCA_BPF_FD, &fd.to_ne_bytes());
    attribute(&mut options, TCA_BPF_NAME, format!("weft_{name}\0").as_bytes());
    attribute(&mut options, TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
    let mut filter = ours(interface);
    attribute(&mut filter, TCA_KIND, b"bpf\0");
    attribute(&mut filter, TCA_OPTIONS, &options);
    let added = socket.request_raw(RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &filter);
    added.map(drop).map_err(refused(format!("add {name} to interface {interface}")))
}

/// The number of the program that is there as ours, if any.
pub(super) fn attached(socket: &mut NetlinkSocket, interface: u32) -> Result<Option<u32>, FastPathError> {
    let filters = match socket.request_raw(RTM_GETTFILTER, NLM_F_DUMP, &message(interface, 0, INGRESS, 0)) {
        // No such interface any more, or no clsact on it.
        Err(refusal) if is_gone(&refusal) => return Ok(None),
        filters => filters.map_err(refused(format!("list the filters of interface {interface}")))?,
    };
    Ok(filters.iter().find_map(|filter| program_of(filter)))
}

/// The program of a filter of ours, as the kernel lists it.
fn program_of(filter: &[u8]) -> Option<u32> {
    let word = |at: usize| filter.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    if word(8)? != HANDLE || word(16)? >> 16 != u32::from(PRIORITY) {
        return None;
    }
    let options = Attributes(filter.get(TCMSG_LEN..)?).find(|(kind, _)| *kind == TCA_OPTIONS)?.1;
    let id = Attributes(options).find(|(kind, _)| *kind == TCA_BPF_ID)?.1;
    id.try_into().ok().map(u32::from_ne_bytes)
}

/// Takes ours away. None there is fine.
pub(super) fn detach(socket: &mut NetlinkSocket, interface: u32) -> Result<(), FastPathError> {
    match socket.request_raw(RTM_DELTFILTER, NLM_F_ACK, &ours(interface)) {
        Err(refusal) if !is_gone(&refusal) => {
            Err(refused(format!("remove the filter of interface {interface}"))(refusal))
        }
        _ => Ok(()),
    }
}

/// EINVAL: there is no clsact, so there is no such parent.
fn is_gone(refusal: &Refusal) -> bool {
    let errno = refusal.errno().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENODEV | Errno::ENOENT | Errno::EINVAL | Errno::ENXIO))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_our_filter_is_found() {
        let mut filter = ours(7);
        let mut options = Vec::new();
        attribute(&mut options, TCA_BPF_ID, &42u32.to_ne_bytes());
        attribute(&mut filter, TCA_KIND, b"bpf\0");
        attribute(&mut filter, TCA_OPTIONS, &options);
        assert_eq!(program_of(&filter), Some(42));
        let mut other = filter.clone();
        other[8] ^= 1;
        assert_eq!(program_of(&other), None);
        for cut in 0..filter.len() {
            assert!(program_of(&filter[..cut]).is_none_or(|id| id == 42));
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            program_of(&bytes);
        }
    }
}
