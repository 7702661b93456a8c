//! Programs on the ingress of interfaces.

use std::collections::BTreeMap;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use netlink_sys::protocols::NETLINK_ROUTE;
use weft_plan::{FastPath, LinkName, WayOut};
use weft_types::{Vni, error_chain};

use super::folder::{Folder, Place, remove};
use super::programs::{Program, ProgramName, Programs};
use super::survey::{Space, Survey};
use super::{Attachment, FastPathError, filter, object};
use crate::Netns;
use crate::socket::NetlinkSocket;

/// What shall be attached in one namespace.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) netns: Netns,
    pub(super) places: Vec<(Place, LinkName)>,
}

/// How a program came to its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was there.
    Stood,
    /// It took the place of another one; at no time was there none.
    Replaced,
    /// There was none.
    Attached,
    /// In words.
    Failed(String),
}

/// Where programs shall be, of the interfaces that are there, by namespace.
pub(super) fn wishes(desired: &FastPath, survey: &Survey) -> BTreeMap<u64, Wishes> {
    let mut all = BTreeMap::new();
    let mut wish = |space: &Space, link: &LinkName, program, vni| {
        let Some(device) = space.devices.get(link) else { return };
        let wishes: &mut Wishes =
            all.entry(space.id).or_insert_with(|| Wishes { netns: space.netns.clone(), places: Vec::new() });
        let place = Place { namespace: space.id, interface: device.index, program, vni };
        wishes.places.push((place, link.clone()));
    };
    for link in &desired.underlay {
        wish(&survey.host, link, ProgramName::Underlay, None);
    }
    for (vni, segment) in &desired.segments {
        let Some(space) = survey.spaces.get(&segment.namespace) else { continue };
        match &segment.way_out {
            WayOut::Uplink { inside, outside } => {
                wish(&survey.host, outside, ProgramName::UplinkOutside, None);
                wish(space, inside, ProgramName::UplinkInside, Some(*vni));
            }
            WayOut::Device(link) => wish(space, link, ProgramName::Device, Some(*vni)),
            WayOut::None => {}
        }
        for link in segment.ports.keys() {
            wish(space, link, ProgramName::Endpoint, Some(*vni));
        }
    }
    all
}

/// Brings the programs to their places in one namespace.
pub(super) fn settle(
    attachment: Attachment,
    wishes: &Wishes,
    programs: &mut BTreeMap<Option<Vni>, Programs>,
    folder: &Folder,
) -> Result<Vec<Outcome>, FastPathError> {
    let mut each = |place: &Place, bring: &mut dyn FnMut(&mut Program, &Path) -> _| {
        let program = programs.get_mut(&place.vni).and_then(|programs| programs.get_mut(&place.program));
        let Some(program) = program else { return Outcome::Failed("the program is not loaded".to_owned()) };
        let brought: Result<Outcome, FastPathError> = bring(program, &folder.pin(*place));
        brought.unwrap_or_else(|error| Outcome::Failed(error_chain(&error)))
    };
    match attachment {
        Attachment::Tcx => Ok(wishes.netns.run_in(|| {
            let places = wishes.places.iter();
            places.map(|(place, link)| each(place, &mut |program, pin| by_link(program, link, pin))).collect()
        })?),
        Attachment::Filter => {
            let mut socket = NetlinkSocket::open(&wishes.netns, NETLINK_ROUTE)?;
            let mut bring = |place: &Place| {
                let name = place.program.name();
                each(place, &mut |program, pin| by_filter(&mut socket, place.interface, name, program, pin))
            };
            Ok(wishes.places.iter().map(|(place, _)| bring(place)).collect())
        }
    }
}

/// In the interface's namespace. The link is pinned, and so is the program attached, until the pin is removed.
fn by_link(program: &mut Program, link: &LinkName, pin: &Path) -> Result<Outcome, FastPathError> {
    let pinned = pin.exists();
    if pinned && attached(link)?.contains(&program.id) {
        return Ok(Outcome::Stood);
    }
    if pinned && replace(&mut program.classifier, pin).is_ok() {
        return Ok(Outcome::Replaced);
    }
    // A link whose interface is gone, or that somebody cut.
    remove(pin)?;
    let ingress = TcAttachType::Ingress;
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.classifier.attach_with_options(link.as_str(), ingress, options);
    let id = id.map_err(object(format!("attach to {link}")))?;
    let fd = take(&mut program.classifier, id).map_err(object(format!("attach to {link}")))?;
    fd.pin(pin).map_err(object(format!("pin the attachment to {link}")))?;
    Ok(Outcome::Attached)
}

/// Programs on an interface's ingress, in its namespace.
fn attached(link: &LinkName) -> Result<Vec<u32>, FastPathError> {
    let found = SchedClassifier::query_tcx(link.as_str(), TcAttachType::Ingress);
    let (_, programs) = found.map_err(object(format!("list the programs of {link}")))?;
    Ok(programs.iter().map(|program| program.id()).collect())
}

fn replace(classifier: &mut SchedClassifier, pin: &Path) -> Result<(), FastPathError> {
    let pinned = PinnedLink::from_pin(pin).map_err(object("open a pinned attachment"))?;
    let link =
        SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(object("open a pinned attachment"))?;
    let id = classifier.attach_to_link(link).map_err(object("replace a program"))?;
    // The pin keeps it.
    take(classifier, id).map(drop).map_err(object("replace a program"))
}

fn take(classifier: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<FdLink, ProgramError> {
    let link = classifier.take_link(id)?;
    link.try_into().map_err(|error: LinkError| match error {
        LinkError::SyscallError(error) => ProgramError::SyscallError(error),
        LinkError::InvalidLink | LinkError::UnknownLinkType(_) => ProgramError::NotAttached,
    })
}

/// The filter stays by itself; the pin of its program remembers where it is.
fn by_filter(
    socket: &mut NetlinkSocket,
    interface: u32,
    name: &str,
    program: &mut Program,
    pin: &Path,
) -> Result<Outcome, FastPathError> {
    let found = filter::attached(socket, interface)?;
    let pinned = pin.exists();
    if found == Some(program.id) && pinned {
        return Ok(Outcome::Stood);
    }
    if found != Some(program.id) {
        filter::attach(socket, interface, name, program)?;
    }
    remove(pin)?;
    program.classifier.pin(pin).map_err(object(format!("pin the program of interface {interface}")))?;
    let other = found.is_some_and(|found| found != program.id);
    Ok(if other { Outcome::Replaced } else { Outcome::Attached })
}

/// Takes a program from its place. `netns`: the namespace, where it is known and still there.
pub(super) fn leave(
    attachment: Attachment,
    place: Place,
    netns: Option<&Netns>,
    folder: &Folder,
) -> Result<(), FastPathError> {
    if let (Attachment::Filter, Some(netns)) = (attachment, netns) {
        let mut socket = NetlinkSocket::open(netns, NETLINK_ROUTE)?;
        filter::detach(&mut socket, place.interface)?;
    }
    remove(&folder.pin(place))
}
