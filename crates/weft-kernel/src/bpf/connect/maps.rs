//! The programs' maps.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use aya::{Ebpf, Pod};
use weft_plan::{ConnectChange, ConnectTables};

use super::layout::{self, Address, Counter, Service, Slot};
use super::{ConnectCounters, ConnectError};
use crate::bpf::maps::{removed, sum};
use crate::bpf::object;

/// Their names, in the programs and in the folder.
pub(super) const MAPS: [&str; 5] = ["namespaces", "services", "slots", "peers", "counters"];

/// All of them.
pub(super) struct Maps {
    namespaces: HashMap<MapData, u64, u64>,
    services: HashMap<MapData, Service, u64>,
    slots: HashMap<MapData, Slot, Address>,
    /// The programs' alone, one entry a socket.
    peers: MapData,
    counters: PerCpuArray<MapData, u64>,
    /// The kernel's numbers for all of them.
    ids: Vec<u32>,
    folder: PathBuf,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").field("ids", &self.ids).finish()
    }
}

impl Maps {
    /// Those that are pinned in a folder.
    pub(super) fn pinned(folder: &Path) -> Result<Self, MapError> {
        Self::new(|name| MapData::from_pin(folder.join(name)), folder)
    }

    /// Those of programs that were loaded without a folder.
    pub(super) fn of(loaded: &mut Ebpf) -> Result<Self, MapError> {
        let missing = || MapError::InvalidMapType { map_type: 0 };
        let take = |name| match loaded.take_map(name).ok_or_else(missing)? {
            Map::HashMap(data) | Map::SkStorage(data) | Map::PerCpuArray(data) => Ok(data),
            _ => Err(missing()),
        };
        Self::new(take, Path::new(""))
    }

    fn new(
        open: impl FnMut(&'static str) -> Result<MapData, MapError>,
        folder: &Path,
    ) -> Result<Self, MapError> {
        let [namespaces, services, slots, peers, counters] = MAPS.map(open);
        let (namespaces, services, slots) = (namespaces?, services?, slots?);
        let (peers, counters) = (peers?, counters?);
        let all = [&namespaces, &services, &slots, &peers, &counters];
        let ids = all.map(|map| map.info().map(|info| info.id()));
        Ok(Self {
            ids: ids.into_iter().collect::<Result<_, _>>()?,
            namespaces: Map::HashMap(namespaces).try_into()?,
            services: Map::HashMap(services).try_into()?,
            slots: Map::HashMap(slots).try_into()?,
            peers,
            counters: Map::PerCpuArray(counters).try_into()?,
            folder: folder.to_owned(),
        })
    }

    /// Whether the pins are those of these maps; somebody may have removed them.
    pub(super) fn are_pinned(&self) -> bool {
        Self::pinned(&self.folder).is_ok_and(|found| found.ids == self.ids)
    }

    /// All that they say.
    pub(super) fn read(&self) -> Result<ConnectTables, ConnectError> {
        Ok(ConnectTables {
            namespaces: entries(&self.namespaces, |cookie| cookie, |reach| reach)?,
            services: entries(&self.services, |key| layout::read_service(&key), layout::read_slots_of)?,
            slots: entries(&self.slots, |key| layout::read_slot(&key), Ipv6Addr::from)?,
        })
    }

    /// One step. What shall go and is not there is fine.
    pub(super) fn apply(&mut self, change: &ConnectChange) -> Result<(), ConnectError> {
        let done = match *change {
            ConnectChange::SetSlot(key, ip) => self.slots.insert(layout::slot(key), ip.octets(), 0),
            ConnectChange::SetService(key, slots) => {
                self.services.insert(layout::service(key), layout::slots_of(slots), 0)
            }
            ConnectChange::SetNamespace(cookie, reach) => self.namespaces.insert(cookie, reach, 0),
            ConnectChange::RemoveNamespace(cookie) => removed(self.namespaces.remove(&cookie)),
            ConnectChange::RemoveService(key) => removed(self.services.remove(&layout::service(key))),
            ConnectChange::RemoveSlot(key) => removed(self.slots.remove(&layout::slot(key))),
        };
        Ok(done.map_err(object("write to the maps of services"))?)
    }

    pub(super) fn peers(&self) -> BorrowedFd<'_> {
        self.peers.fd().as_fd()
    }

    pub(super) fn counters(&self) -> Result<ConnectCounters, ConnectError> {
        let sum = |counter: Counter| sum(&self.counters, counter as u32);
        Ok(ConnectCounters {
            translated: sum(Counter::Translated)?,
            refused: sum(Counter::Refused)?,
            left: sum(Counter::Left)?,
        })
    }
}

fn entries<K: Pod, V: Pod, A: Ord, B>(
    map: &HashMap<MapData, K, V>,
    key: impl Fn(K) -> A,
    value: impl Fn(V) -> B,
) -> Result<BTreeMap<A, B>, ConnectError> {
    let mut found = BTreeMap::new();
    for entry in map.iter() {
        match entry {
            Ok((k, v)) => {
                found.insert(key(k), value(v));
            }
            // Removed while it was being read.
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(object("read the maps of services")(error).into()),
        }
    }
    Ok(found)
}
