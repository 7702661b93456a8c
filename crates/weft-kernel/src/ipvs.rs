//! Virtual services of IPVS by generic netlink.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;
use weft_plan::{Ipvs, IpvsScheduler, IpvsService, IpvsServiceId, IpvsTimeouts, Op};

use crate::elements::attribute;
use crate::socket::{Attributes, NetlinkSocket, Refusal};
use crate::{KernelError, Netns};

/// The family that names families (linux/genetlink.h).
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// Commands and attributes (linux/ip_vs.h).
const NAME: &[u8] = b"IPVS\0";
const VERSION: u8 = 1;
const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
const NEW_DEST: u8 = 5;
const SET_DEST: u8 = 6;
const DEL_DEST: u8 = 7;
const GET_DEST: u8 = 8;
const SET_CONFIG: u8 = 12;
const GET_CONFIG: u8 = 13;
const CMD_SERVICE: u16 = 1;
const CMD_DEST: u16 = 2;
const CMD_TIMEOUT_TCP: u16 = 4;
const CMD_TIMEOUT_TCP_FIN: u16 = 5;
const CMD_TIMEOUT_UDP: u16 = 6;
const SVC_AF: u16 = 1;
const SVC_FWMARK: u16 = 5;
const SVC_SCHED_NAME: u16 = 6;
const SVC_FLAGS: u16 = 7;
const SVC_TIMEOUT: u16 = 8;
const SVC_NETMASK: u16 = 9;
const DEST_ADDR: u16 = 1;
const DEST_PORT: u16 = 2;
const DEST_FWD_METHOD: u16 = 3;
const DEST_WEIGHT: u16 = 4;
const DEST_U_THRESH: u16 = 5;
const DEST_L_THRESH: u16 = 6;
const DEST_ADDR_FAMILY: u16 = 11;
/// Translated, not tunnelled and not routed.
const FWD_MASQ: u32 = 0;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// The attribute has attributes in it.
const NESTED: u16 = 0x8000;
/// Length of `struct genlmsghdr`.
const GENMSG: usize = 4;

/// A connection to IPVS in one namespace.
#[derive(Debug)]
pub(crate) struct IpvsSocket {
    socket: NetlinkSocket,
    family: u16,
}

impl IpvsSocket {
    /// None where the kernel has no IPVS.
    pub(crate) fn open(netns: &Netns) -> Result<Option<Self>, KernelError> {
        let mut socket = NetlinkSocket::open(netns, NETLINK_GENERIC)?;
        let mut request = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
        attribute(&mut request, CTRL_ATTR_FAMILY_NAME, NAME);
        let answers = match socket.request_raw(GENL_ID_CTRL, NLM_F_ACK, &request) {
            Ok(answers) => answers,
            Err(Refusal::Errno { .. }) => return Ok(None),
            Err(refusal) => return Err(refusal.of("ask for IPVS")),
        };
        let family = answers.iter().find_map(|answer| number(answer.get(GENMSG..)?, CTRL_ATTR_FAMILY_ID));
        Ok(family.and_then(|family| u16::try_from(family).ok()).map(|family| Self { socket, family }))
    }

    fn request(&mut self, command: u8, flags: u16, attributes: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
        let body = [&[command, VERSION, 0, 0], attributes].concat();
        let answers = self.socket.request_raw(self.family, flags, &body)?;
        Ok(answers.into_iter().filter_map(|answer| answer.get(GENMSG..).map(<[u8]>::to_vec)).collect())
    }

    /// `add`, or `change` what is there already.
    fn set(&mut self, add: u8, change: u8, attributes: &[u8]) -> Result<(), Refusal> {
        match self.request(add, NLM_F_ACK, attributes) {
            Err(refusal) if refusal.errno() == Some(Errno::EEXIST as i32) => {
                self.request(change, NLM_F_ACK, attributes).map(|_| ())
            }
            answer => answer.map(|_| ()),
        }
    }

    /// What is gone already is as wanted.
    fn delete(&mut self, command: u8, attributes: &[u8]) -> Result<(), Refusal> {
        match self.request(command, NLM_F_ACK, attributes) {
            Err(refusal)
                if [Some(Errno::ESRCH as i32), Some(Errno::ENOENT as i32)].contains(&refusal.errno()) =>
            {
                Ok(())
            }
            answer => answer.map(|_| ()),
        }
    }

    fn apply(&mut self, op: &Op) -> Result<(), Refusal> {
        match op {
            Op::SetIpvsTimeouts(timeouts) => {
                self.request(SET_CONFIG, NLM_F_ACK, &config(*timeouts)).map(|_| ())
            }
            Op::SetIpvsService { id, scheduler } => {
                self.set(NEW_SERVICE, SET_SERVICE, &service(*id, Some(*scheduler)))
            }
            Op::DeleteIpvsService(id) => self.delete(DEL_SERVICE, &service(*id, None)),
            Op::SetIpvsDestination { service: id, ip, weight } => {
                self.set(NEW_DEST, SET_DEST, &[service(*id, None), destination(*ip, *weight)].concat())
            }
            Op::DeleteIpvsDestination { service: id, ip } => {
                self.delete(DEL_DEST, &[service(*id, None), destination(*ip, 0)].concat())
            }
            _ => Ok(()),
        }
    }

    /// Services by mark, with their destinations.
    fn observe(&mut self) -> Result<Ipvs, Refusal> {
        let config = self.request(GET_CONFIG, NLM_F_ACK, &[])?;
        let mut ipvs =
            Ipvs { timeouts: config.first().and_then(|answer| timeouts(answer)), ..Ipvs::default() };
        for answer in self.request(GET_SERVICE, NLM_F_DUMP, &[])? {
            if let Some((id, scheduler)) = find(&answer, CMD_SERVICE).and_then(seen_service) {
                ipvs.services.insert(id, IpvsService { scheduler, ..IpvsService::default() });
            }
        }
        for (id, seen) in &mut ipvs.services {
            for answer in self.request(GET_DEST, NLM_F_DUMP, &service(*id, None))? {
                let found = find(&answer, CMD_DEST).and_then(|found| seen_destination(found, id.ipv6));
                seen.destinations.extend(found);
            }
        }
        Ok(ipvs)
    }
}

/// Carries out one operation.
pub(crate) fn apply(open: &mut Option<IpvsSocket>, netns: &Netns, op: &Op) -> Result<(), KernelError> {
    let socket = opened(open, netns)?.ok_or_else(|| KernelError::NoIpvs { request: op.to_string() })?;
    socket.apply(op).map_err(|refusal| refusal.of(op.to_string()))
}

/// The services by mark of a namespace; none where the kernel has no IPVS.
pub(crate) fn observe(open: &mut Option<IpvsSocket>, netns: &Netns) -> Result<Ipvs, KernelError> {
    match opened(open, netns)? {
        Some(socket) => socket.observe().map_err(|refusal| refusal.of("list virtual services")),
        None => Ok(Ipvs::default()),
    }
}

fn opened<'a>(
    open: &'a mut Option<IpvsSocket>,
    netns: &Netns,
) -> Result<Option<&'a mut IpvsSocket>, KernelError> {
    if open.is_none() {
        *open = IpvsSocket::open(netns)?;
    }
    Ok(open.as_mut())
}

fn config(timeouts: IpvsTimeouts) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, CMD_TIMEOUT_TCP, &timeouts.tcp.to_ne_bytes());
    attribute(&mut out, CMD_TIMEOUT_TCP_FIN, &timeouts.tcp_fin.to_ne_bytes());
    attribute(&mut out, CMD_TIMEOUT_UDP, &timeouts.udp.to_ne_bytes());
    out
}

/// With a scheduler the whole service, without one only what names it.
fn service(id: IpvsServiceId, scheduler: Option<IpvsScheduler>) -> Vec<u8> {
    let mut inner = Vec::new();
    attribute(&mut inner, SVC_AF, &(if id.ipv6 { AF_INET6 } else { AF_INET }).to_ne_bytes());
    attribute(&mut inner, SVC_FWMARK, &id.mark.to_ne_bytes());
    if let Some(scheduler) = scheduler {
        // No persistence, so every client's address is looked at whole: a mask, or for IPv6 a prefix length.
        let mask: u32 = if id.ipv6 { 128 } else { u32::MAX };
        attribute(&mut inner, SVC_SCHED_NAME, &[scheduler.name().as_bytes(), &[0]].concat());
        attribute(&mut inner, SVC_FLAGS, &[[0; 4], [0xff; 4]].concat());
        attribute(&mut inner, SVC_TIMEOUT, &0u32.to_ne_bytes());
        attribute(&mut inner, SVC_NETMASK, &mask.to_ne_bytes());
    }
    let mut out = Vec::new();
    attribute(&mut out, CMD_SERVICE | NESTED, &inner);
    out
}

/// Port 0: the one that the client asked for.
fn destination(ip: IpAddr, weight: u16) -> Vec<u8> {
    let (family, mut address) = match ip {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    address.resize(16, 0);
    let mut inner = Vec::new();
    attribute(&mut inner, DEST_ADDR, &address);
    attribute(&mut inner, DEST_PORT, &[0, 0]);
    attribute(&mut inner, DEST_FWD_METHOD, &FWD_MASQ.to_ne_bytes());
    attribute(&mut inner, DEST_WEIGHT, &u32::from(weight).to_ne_bytes());
    attribute(&mut inner, DEST_U_THRESH, &0u32.to_ne_bytes());
    attribute(&mut inner, DEST_L_THRESH, &0u32.to_ne_bytes());
    attribute(&mut inner, DEST_ADDR_FAMILY, &family.to_ne_bytes());
    let mut out = Vec::new();
    attribute(&mut out, CMD_DEST | NESTED, &inner);
    out
}

fn timeouts(answer: &[u8]) -> Option<IpvsTimeouts> {
    Some(IpvsTimeouts {
        tcp: number(answer, CMD_TIMEOUT_TCP)?,
        tcp_fin: number(answer, CMD_TIMEOUT_TCP_FIN)?,
        udp: number(answer, CMD_TIMEOUT_UDP)?,
    })
}

/// None for a service by address. One that chooses in a way that Weft never asks for shows as if by weight, and one by
/// weight is then set anew: it is told apart by nothing else.
fn seen_service(service: &[u8]) -> Option<(IpvsServiceId, IpvsScheduler)> {
    let mark = number(service, SVC_FWMARK).filter(|mark| *mark != 0)?;
    let ipv6 = number(service, SVC_AF)? == u32::from(AF_INET6);
    let name = find(service, SVC_SCHED_NAME).and_then(|name| std::str::from_utf8(name).ok());
    let scheduler = IpvsScheduler::from_name(name?.trim_end_matches('\0'));
    Some((IpvsServiceId { ipv6, mark }, scheduler.unwrap_or(IpvsScheduler::WeightedRoundRobin)))
}

fn seen_destination(destination: &[u8], ipv6: bool) -> Option<(IpAddr, u16)> {
    let address = find(destination, DEST_ADDR)?;
    let ip = match ipv6 {
        false => IpAddr::from(<[u8; 4]>::try_from(address.get(..4)?).ok()?),
        true => IpAddr::from(<[u8; 16]>::try_from(address.get(..16)?).ok()?),
    };
    Some((ip, u16::try_from(number(destination, DEST_WEIGHT)?).unwrap_or(u16::MAX)))
}

fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number of two or four bytes.
fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    let value = find(attributes, kind)?;
    match value.len() {
        2 => Some(u32::from(u16::from_ne_bytes(value.try_into().ok()?))),
        _ => Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?)),
    }
}
