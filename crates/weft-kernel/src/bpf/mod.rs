//! The fast path: BPF programs beside the bridges (design: BPF engine).
//!
//! ```text
//!     container          network's namespace N               host's namespace
//!  ,-----.          ,-----------------------------.      ,---------------------.
//!  | eth0 +--veth---+ port: from_endpoint ----.    |      |                     |
//!  `-----'          |   ^  (to another port,   |   |      |                     |
//!                   |   |   or encapsulated)   v   | veth | outside:            |
//!                   |   |                    inside-------+ from_uplink_outside |
//!                   |   '--- from_uplink_inside    |      |   | route, neighbour|
//!                   |                              |      |   v                 |
//!                   |  (bridge, VXLAN: slow path)  |      | eth0: from_underlay |
//!                   `-----------------------------'      `---------------------'
//! ```
//!
//! A program may move a packet into another namespace only by a veth pair, to the end over there, whose programs run at
//! once and without a queue between. Hence the uplink: a pair of each network that only programs use.
//!
//! All is found by one map, from network identifier and Ethernet address to a [`layout::Station`]. A frame whose station
//! is not in it, and all that the programs do not understand, takes the bridge. So the order of changes is: what no
//! longer holds leaves the map, programs come and go, then what is new enters the map.
//!
//! Not done here: uplinks (`weft-plan` makes them as other pairs), IPv6 between nodes (received, not sent), what the
//! host's own rules for outgoing packets say: a program's packets do not pass netfilter nor XFRM.

mod attach;
mod connect;
mod error;
mod filter;
mod folder;
mod layout;
mod maps;
mod memory;
#[cfg(test)]
mod packet_tests;
#[cfg(test)]
mod prebuilt_tests;
mod probe;
mod programs;
mod reconcile;
mod report;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use weft_plan::{FastPath, NamespaceRef};
use weft_types::{Vni, error_chain};

pub use connect::{ConnectCounters, ConnectEngine, ConnectError, ConnectReport};
pub use error::FastPathError;
pub use report::{FastPathCounters, FastPathReport};

use folder::{Folder, Place};
use layout::{Key, NO_SETTINGS, Settings, Station};
use maps::Maps;
use programs::Programs;

/// How programs are attached to interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// By links of the kernel's tcx (Linux 6.6).
    Tcx,
    /// As filters of the queueing discipline `clsact`.
    Filter,
}

/// The fast path of a node: loaded programs, their maps, and where they are attached. All of it is pinned below a
/// folder and outlives this value: traffic goes on while the daemon is away.
#[derive(Debug)]
pub struct FastPathEngine {
    folder: Folder,
    attachment: Attachment,
    /// What tells this build's programs from others'.
    build: String,
    maps: Maps,
    /// The host's, and each segment's.
    programs: BTreeMap<Option<Vni>, Programs>,
    /// What was brought about last; none before the first time.
    applied: Option<Applied>,
}

/// What a reconciliation brought about. What of it is gone later was somebody else's doing.
#[derive(Debug)]
struct Applied {
    settings: Settings,
    stations: BTreeMap<Key, Station>,
    places: BTreeSet<Place>,
    /// By number. Names, not open files: those would keep a namespace alive that is to go.
    namespaces: BTreeMap<u64, NamespaceRef>,
}

impl Default for Applied {
    fn default() -> Self {
        let (stations, places, namespaces) = Default::default();
        Self { settings: NO_SETTINGS, stations, places, namespaces }
    }
}

impl FastPathEngine {
    /// How programs are attached where this kernel can carry a fast path; the reason in words where not. Tries in a
    /// namespace that is thrown away.
    pub fn probe_blocking() -> Result<Attachment, FastPathError> {
        probe::probe()
    }

    /// Adopts what a former daemon pinned below `folder`, where a file system for BPF objects is mounted, or begins anew.
    pub fn open_blocking(folder: &Path) -> Result<Self, FastPathError> {
        Self::open_with_blocking(folder, probe::probe()?)
    }

    /// [`FastPathEngine::open_blocking`], where it is known how programs are attached. To change that, all must be
    /// removed first.
    pub fn open_with_blocking(folder: &Path, attachment: Attachment) -> Result<Self, FastPathError> {
        let folder = Folder::open(folder)?;
        if folder.has_other_maps()? {
            // Programs of other maps would go by what these say for ever.
            for place in folder.pins()? {
                attach::leave(attachment, place, None, &folder)?;
            }
        }
        let maps = Maps::open(&folder)?;
        Ok(Self {
            folder,
            attachment,
            build: programs::build(),
            maps,
            programs: BTreeMap::new(),
            applied: None,
        })
    }

    /// How programs are attached.
    pub fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Makes maps and attachments as wished; none: nothing is carried. Interfaces that are not there (yet) are left to
    /// the bridges and named in the report, and what failed is, too: the rest was still done.
    pub fn reconcile_blocking(
        &mut self,
        desired: Option<&FastPath>,
    ) -> Result<FastPathReport, FastPathError> {
        self.reconcile(desired)
    }

    /// What the programs counted.
    pub fn counters_blocking(&self) -> Result<FastPathCounters, FastPathError> {
        self.maps.counters()
    }

    /// Takes everything away: attachments, programs, maps, the mount.
    pub fn remove_blocking(mut self) -> Result<(), FastPathError> {
        self.reconcile(None)?;
        self.folder.remove()
    }
}

/// What a call of the library was for, and what it said.
fn object<E: std::error::Error>(what: impl Into<String>) -> impl FnOnce(E) -> FastPathError {
    move |error| FastPathError::Object { what: what.into(), reason: error_chain(&error) }
}
