//! Carrying out operations.

use std::collections::HashMap;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use weft_plan::{Link, LinkChange, LinkKind, LinkName, Op, Owner, SourcePorts, SubInterface};

use crate::kernel::Sockets;
use crate::socket::{NetlinkSocket, Refusal};
use crate::{
    ApplyError, KernelError, Netns, Tap, Xfrm, ipvs, message, netfilter, nft, observe, sub_interface, sysctl,
};

/// What became of a list of operations.
#[derive(Debug, Default)]
pub struct Report {
    /// Those done.
    pub done: Vec<Op>,
    /// Those that failed, with the reason.
    pub failed: Vec<ApplyError>,
    /// Transactions of nftables among them.
    pub(crate) transactions: u32,
}

impl Report {
    /// Whether the namespace now is as wanted.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }

    /// The operations done, or the first failure.
    pub fn into_result(self) -> Result<Vec<Op>, ApplyError> {
        match self.failed.into_iter().next() {
            None => Ok(self.done),
            Some(error) => Err(error),
        }
    }

    /// Nothing was done: the namespace could not be entered.
    pub(crate) fn not_entered(ops: &[Op], error: KernelError) -> Self {
        let failed = ops.first().map(|op| ApplyError { op: Box::new(op.clone()), source: error });
        Self { failed: failed.into_iter().collect(), ..Self::default() }
    }

    fn note(&mut self, op: &Op, result: Result<(), KernelError>) {
        match result {
            Ok(()) => self.done.push(op.clone()),
            Err(source) => {
                tracing::debug!(op = %op, error = %source, "operation failed");
                self.failed.push(ApplyError { op: Box::new(op.clone()), source });
            }
        }
    }
}

/// Carries out `ops` in order, those of nftables together at the place of the first. Runs inside `netns`.
pub(crate) fn apply(sockets: &mut Sockets, netns: &Netns, ops: &[Op]) -> Report {
    let nft_ops: Vec<&Op> = ops.iter().filter(|op| op.is_nft()).collect();
    let mut indexes = HashMap::new();
    let mut report = Report::default();
    let mut nft_done = false;
    for op in ops {
        if op.is_ipvs() {
            report.note(op, ipvs::apply(&mut sockets.ipvs, netns, op));
        } else if !op.is_nft() {
            let mut applier = Applier { socket: &mut sockets.route, netns, indexes };
            report.note(op, applier.apply(op));
            indexes = applier.indexes;
        } else if !nft_done {
            nft_done = true;
            apply_nft(&mut sockets.netfilter, &nft_ops, &mut report);
        }
    }
    report
}

/// Whole tables in one transaction of `nft`, then elements in one of ours: these can only be of tables that are there.
pub(crate) fn apply_nft(socket: &mut NetlinkSocket, ops: &[&Op], report: &mut Report) {
    let (elements, tables): (Vec<&Op>, Vec<&Op>) =
        ops.iter().partition(|op| matches!(op, Op::ChangeElements { .. }));
    together(&tables, report, nft::apply);
    together(&elements, report, |ops| match netfilter::change_elements(socket, ops) {
        Ok(true) => Ok(()),
        Ok(false) => nft::apply(ops),
        Err(error) => Err(error),
    });
}

/// One transaction; when it fails, one by one, so that one bad table does not keep the others out.
fn together(ops: &[&Op], report: &mut Report, mut apply: impl FnMut(&[&Op]) -> Result<(), KernelError>) {
    if ops.is_empty() {
        return;
    }
    match apply(ops) {
        Ok(()) => {
            report.transactions += 1;
            report.done.extend(ops.iter().map(|op| (*op).clone()));
        }
        Err(error) if ops.len() == 1 => report.note(ops[0], Err(error)),
        Err(_) => ops.iter().for_each(|op| {
            let applied = apply(&[*op]);
            report.transactions += u32::from(applied.is_ok());
            report.note(op, applied);
        }),
    }
}

struct Applier<'a> {
    socket: &'a mut NetlinkSocket,
    netns: &'a Netns,
    indexes: HashMap<LinkName, u32>,
}

impl Applier<'_> {
    fn apply(&mut self, op: &Op) -> Result<(), KernelError> {
        match op {
            Op::CreateLink { name, link } => self.create_link(op, name, link),
            Op::AwaitLink { name } => {
                let awaited = || KernelError::Awaited { name: name.to_string() };
                self.index(name).map(|_| ()).map_err(|_| awaited())
            }
            Op::ChangeLink { name, change } => self.change_link(op, name, change),
            Op::DeleteLink { name } => self.delete_link(op, name),
            Op::AddAddress(address) => {
                let message = message::address(self.index(&address.link)?, address);
                self.send(op, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE, &[])
            }
            Op::DeleteAddress(address) => {
                let message = message::address(self.index(&address.link)?, address);
                self.send(op, RouteNetlinkMessage::DelAddress(message), 0, &[Errno::EADDRNOTAVAIL])
            }
            Op::SetRoute(route) => {
                let index = route.link().map(|link| self.index(link)).transpose()?;
                let message = message::route(route, index);
                self.send(op, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE, &[])
            }
            Op::DeleteRoute(route) => {
                let index = route.link().map(|link| self.index(link)).transpose()?;
                let message = message::route(route, index);
                self.send(op, RouteNetlinkMessage::DelRoute(message), 0, &[Errno::ESRCH])
            }
            Op::AddRule(rule) => {
                let message = RouteNetlinkMessage::NewRule(message::rule(rule));
                self.send(op, message, NLM_F_CREATE | NLM_F_EXCL, &[Errno::EEXIST])
            }
            Op::DeleteRule(rule) => {
                let message = RouteNetlinkMessage::DelRule(message::rule(rule));
                self.send(op, message, 0, &[Errno::ENOENT])
            }
            Op::SetFdb(entry) => {
                let message = message::fdb(self.index(&entry.link)?, entry);
                self.send(op, RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, &[])
            }
            Op::DeleteFdb(entry) => {
                let message = message::fdb(self.index(&entry.link)?, entry);
                self.send(op, RouteNetlinkMessage::DelNeighbour(message), 0, &[Errno::ENOENT])
            }
            Op::SetNeighbour(neighbour) => {
                let message = message::neighbour(self.index(&neighbour.link)?, neighbour);
                self.send(op, RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, &[])
            }
            Op::DeleteNeighbour(neighbour) => {
                let message = message::neighbour(self.index(&neighbour.link)?, neighbour);
                self.send(op, RouteNetlinkMessage::DelNeighbour(message), 0, &[Errno::ENOENT])
            }
            Op::SetSysctl { key, value } => sysctl::write(key, value),
            // Done together, see `apply_nft`.
            Op::SetTable(_) | Op::DeleteTable(_) | Op::ChangeElements { .. } => Ok(()),
            // Goes another way, see `ipvs`.
            Op::SetIpvsTimeouts(_)
            | Op::SetIpvsService { .. }
            | Op::DeleteIpvsService(_)
            | Op::SetIpvsDestination { .. }
            | Op::DeleteIpvsDestination { .. } => Ok(()),
        }
    }

    /// Sends one request; errors that mean "already so" are none.
    fn send(
        &mut self,
        op: &Op,
        message: RouteNetlinkMessage,
        flags: u16,
        fine: &[Errno],
    ) -> Result<(), KernelError> {
        match self.socket.request(message, flags) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.errno().is_some_and(|errno| fine.contains(&Errno::from_raw(errno))) => {
                Ok(())
            }
            Err(refusal) => Err(refusal.of(op.to_string())),
        }
    }

    fn index(&mut self, name: &LinkName) -> Result<u32, KernelError> {
        if let Some(index) = self.indexes.get(name) {
            return Ok(*index);
        }
        let message = find_link(self.socket, name)?.ok_or(KernelError::NoLink { name: name.to_string() })?;
        self.indexes.insert(name.clone(), message.header.index);
        Ok(message.header.index)
    }

    fn create_link(&mut self, op: &Op, name: &LinkName, link: &Link) -> Result<(), KernelError> {
        self.indexes.remove(name);
        let create = NLM_F_CREATE | NLM_F_EXCL;
        let answer = match &link.kind {
            LinkKind::Bridge(options) => {
                let message = message::new_bridge(name, link, *options);
                self.socket.request(RouteNetlinkMessage::NewLink(message), create)
            }
            LinkKind::Veth(Some(peer)) => {
                let there = Netns::resolve(&peer.namespace)?;
                let message = message::new_veth(name, link, peer, &there);
                self.socket.request(RouteNetlinkMessage::NewLink(message), create)
            }
            LinkKind::Vxlan(vxlan) => {
                let underlay = Netns::resolve(&vxlan.underlay)?;
                if vxlan.sources == SourcePorts::Encrypted {
                    // From its first packet on nothing leaves in the clear.
                    Xfrm::open(&underlay)?.forbid(vxlan.port)?;
                }
                let message = message::new_vxlan(name, link, vxlan, self.netns);
                NetlinkSocket::open(&underlay, NETLINK_ROUTE)?
                    .request(RouteNetlinkMessage::NewLink(message), create)
            }
            LinkKind::Vlan(vlan) => {
                let parent = self.index(&vlan.parent)?;
                let message = message::new_vlan(name, link, vlan, parent);
                self.socket.request(RouteNetlinkMessage::NewLink(message), create)
            }
            LinkKind::SubInterface(sub) => self.create_sub_interface(name, link, sub)?,
            LinkKind::Tap => return self.create_tap(op, name, link),
            LinkKind::Loopback | LinkKind::Veth(None) | LinkKind::VethEnd | LinkKind::Other(_) => {
                Err(Refusal::Errno { errno: Errno::EOPNOTSUPP as i32, explanation: None })
            }
        };
        match answer {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.errno() == Some(Errno::EEXIST as i32) => {
                self.existing(op, name, link, refusal)
            }
            Err(refusal) => Err(refusal.of(op.to_string())),
        }
    }

    /// The name must be free in the parent's namespace, too: kernels before 6.7 look there. So it is born under another one.
    fn create_sub_interface(
        &mut self,
        name: &LinkName,
        link: &Link,
        sub: &SubInterface,
    ) -> Result<Result<Vec<RouteNetlinkMessage>, Refusal>, KernelError> {
        let mut underlay = NetlinkSocket::open(&Netns::resolve(&sub.underlay)?, NETLINK_ROUTE)?;
        let parent = sub.parent.clone().unwrap_or_else(LinkName::lo);
        let absent = |name: &LinkName| KernelError::NoLink { name: name.to_string() };
        let found = find_link(&mut underlay, &parent)?.ok_or_else(|| absent(&parent))?.header.index;
        let born = sub_interface::passing_name();
        let message = message::new_sub_interface(&born, link, sub.sharing, found, self.netns);
        if let Err(refusal) =
            underlay.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
        {
            return Ok(Err(refusal));
        }
        let index = find_link(self.socket, &born)?.ok_or_else(|| absent(&born))?.header.index;
        let named = self.socket.request(RouteNetlinkMessage::SetLink(message::renamed(index, name)), 0);
        if named.is_err() {
            let _ = self.socket.request(RouteNetlinkMessage::DelLink(message::link_indexed(index)), 0);
        }
        Ok(named)
    }

    /// Such devices are made by opening one. It stays only when it has our mark: a half-made one goes with the file.
    fn create_tap(&mut self, op: &Op, name: &LinkName, link: &Link) -> Result<(), KernelError> {
        let failed = |source| KernelError::Tap { request: op.to_string(), source };
        let tap = Tap::attach(name).map_err(failed)?;
        let message = message::claim(self.index(name)?, link);
        self.send(op, RouteNetlinkMessage::NewLink(message), 0, &[])?;
        tap.persist().map_err(failed)
    }

    /// Already made by an earlier run of the same operation, in the way, or another of its resources is taken.
    fn existing(
        &mut self,
        op: &Op,
        name: &LinkName,
        link: &Link,
        refusal: Refusal,
    ) -> Result<(), KernelError> {
        let Some(message) = find_link(self.socket, name)? else { return Err(refusal.of(taken(op, link))) };
        let seen = observe::seen_link(&message, &HashMap::new());
        if seen.owner == Owner::Weft && seen.link.kind.name() == link.kind.name() {
            return Ok(());
        }
        Err(KernelError::InTheWay { request: op.to_string() })
    }

    fn change_link(&mut self, op: &Op, name: &LinkName, change: &LinkChange) -> Result<(), KernelError> {
        let master = match change {
            LinkChange::Master(Some(master)) => self.index(master)?,
            _ => 0,
        };
        let message = message::change_link(self.index(name)?, change, master);
        // Changes of kind-specific data go by NEWLINK, which also does everything SETLINK does.
        self.send(op, RouteNetlinkMessage::NewLink(message), 0, &[])?;
        if *change == LinkChange::Up(true) {
            let index = self.index(name)?;
            self.settle(index);
        }
        Ok(())
    }

    /// Lets a link that just came up carry packets at once.
    ///
    /// A carrier that comes on is handled later, by the kernel's link watch: until then packets are dropped, a bridge port
    /// does not forward and a bridge's IPv6 addresses are not valid, for up to a second. Asking for one link handles what is
    /// pending for it (Linux 6.10, `rtnl_getlink`); so ask for the link, its other end wherever that is, and their bridges.
    fn settle(&mut self, index: u32) {
        let Some(link) = self.ask(index, None) else { return };
        self.ask_for_master(&link, None);
        let (mut peer, mut namespace) = (None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Link(index) => peer = Some(*index),
                LinkAttribute::LinkNetNsId(id) => namespace = Some(*id),
                _ => {}
            }
        }
        if let (Some(peer), Some(namespace)) =
            (peer.filter(|index| *index != 0), namespace.filter(|id| *id >= 0))
            && let Some(other) = self.ask(peer, Some(namespace))
        {
            self.ask_for_master(&other, Some(namespace));
        }
    }

    fn ask_for_master(&mut self, link: &LinkMessage, namespace: Option<i32>) {
        let master = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        });
        if let Some(master) = master {
            self.ask(master, namespace);
        }
    }

    /// A link by index; a failure only means that the link watch will do it.
    fn ask(&mut self, index: u32, namespace: Option<i32>) -> Option<LinkMessage> {
        let mut request = message::link_indexed(index);
        request.attributes.extend(namespace.map(LinkAttribute::IfNetnsId));
        let answers = self.socket.request(RouteNetlinkMessage::GetLink(request), 0).ok()?;
        answers.into_iter().find_map(new_link)
    }

    fn delete_link(&mut self, op: &Op, name: &LinkName) -> Result<(), KernelError> {
        // The index may be of an older link of that name.
        self.indexes.remove(name);
        let index = match self.index(name) {
            Err(KernelError::NoLink { .. }) => return Ok(()),
            index => index?,
        };
        self.indexes.remove(name);
        let message = message::link_indexed(index);
        self.send(op, RouteNetlinkMessage::DelLink(message), 0, &[Errno::ENODEV])
    }
}

/// Says what else can exist already when the name is free.
fn taken(op: &Op, link: &Link) -> String {
    match &link.kind {
        LinkKind::Vxlan(vxlan) => {
            format!(
                "{op}: another device of this host uses VNI {} at port {}",
                u32::from(vxlan.vni),
                vxlan.port
            )
        }
        LinkKind::Veth(Some(peer)) => format!("{op}: {} exists in {}", peer.name, peer.namespace.0),
        _ => op.to_string(),
    }
}

/// The link of that name.
pub(crate) fn find_link(
    socket: &mut NetlinkSocket,
    name: &LinkName,
) -> Result<Option<LinkMessage>, KernelError> {
    let mut request = message::link_named(name);
    request.header.interface_family = AddressFamily::Unspec;
    match socket.request(RouteNetlinkMessage::GetLink(request), 0) {
        Ok(answers) => Ok(answers.into_iter().find_map(new_link)),
        Err(refusal) if refusal.errno() == Some(Errno::ENODEV as i32) => Ok(None),
        Err(refusal) => Err(refusal.of(format!("look up interface {name}"))),
    }
}

fn new_link(answer: RouteNetlinkMessage) -> Option<LinkMessage> {
    match answer {
        RouteNetlinkMessage::NewLink(message) => Some(message),
        _ => None,
    }
}
