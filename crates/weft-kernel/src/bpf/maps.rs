//! The programs' maps.

use std::collections::BTreeMap;
use std::fmt;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};

use super::folder::{Folder, remove};
use super::layout::{Counter, Key, Settings, Station};
use super::programs::load;
use super::{FastPathCounters, FastPathError, object};

/// Their names, in the programs and in the folder.
pub(super) const MAPS: [&str; 3] = ["stations", "settings", "counters"];

pub(super) struct Maps {
    stations: HashMap<MapData, Key, Station>,
    settings: Array<MapData, Settings>,
    counters: PerCpuArray<MapData, u64>,
    /// The kernel's numbers for those that every program uses.
    ids: Vec<u32>,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").field("ids", &self.ids).finish()
    }
}

impl Maps {
    /// Those that are pinned. Where one is missing all are made anew and pinned, so that programs have all or none.
    pub(super) fn open(folder: &Folder) -> Result<Self, FastPathError> {
        let pins = folder.maps();
        std::fs::create_dir_all(&pins).map_err(|source| FastPathError::Folder {
            path: pins.clone(),
            step: "make the folder",
            source,
        })?;
        if let Ok(maps) = Self::pinned(folder) {
            return Ok(maps);
        }
        for name in MAPS {
            remove(&pins.join(name))?;
        }
        load(None, Some(&pins))?;
        Self::pinned(folder).map_err(object("open the maps that were just pinned"))
    }

    fn pinned(folder: &Folder) -> Result<Self, MapError> {
        let open = |name| MapData::from_pin(folder.maps().join(name));
        let [stations, settings, counters] = MAPS.map(open);
        let (stations, settings, counters) = (stations?, settings?, counters?);
        let ids = [&stations, &settings, &counters].map(|map| map.info().map(|info| info.id()));
        Ok(Self {
            ids: ids.into_iter().collect::<Result<_, _>>()?,
            stations: Map::HashMap(stations).try_into()?,
            settings: Map::Array(settings).try_into()?,
            counters: Map::PerCpuArray(counters).try_into()?,
        })
    }

    /// Whether a program that uses maps of these numbers uses these. Not every program uses each.
    pub(super) fn are_among(&self, ids: &[u32]) -> bool {
        self.ids.iter().any(|id| ids.contains(id))
    }

    /// Whether the pins are those of these maps; somebody may have removed them.
    pub(super) fn are_pinned(&self, folder: &Folder) -> bool {
        Self::pinned(folder).is_ok_and(|found| found.ids == self.ids)
    }

    /// Every station in the map.
    pub(super) fn stations(&self) -> Result<BTreeMap<Key, Station>, FastPathError> {
        let mut found = BTreeMap::new();
        for entry in self.stations.iter() {
            match entry {
                Ok((key, station)) => {
                    found.insert(key, station);
                }
                // Removed while it was being read.
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(object("read the map of stations")(error)),
            }
        }
        Ok(found)
    }

    pub(super) fn set_station(&mut self, key: &Key, station: &Station) -> Result<(), FastPathError> {
        self.stations.insert(key, station, 0).map_err(object("write to the map of stations"))
    }

    /// One that is not there is fine.
    pub(super) fn remove_station(&mut self, key: &Key) -> Result<(), FastPathError> {
        removed(self.stations.remove(key)).map_err(object("remove from the map of stations"))
    }

    pub(super) fn settings(&self) -> Result<Settings, FastPathError> {
        self.settings.get(&0, 0).map_err(object("read the map of settings"))
    }

    pub(super) fn set_settings(&mut self, settings: Settings) -> Result<(), FastPathError> {
        self.settings.set(0, settings, 0).map_err(object("write to the map of settings"))
    }

    pub(super) fn counters(&self) -> Result<FastPathCounters, FastPathError> {
        let sum = |counter: Counter| sum(&self.counters, counter as u32);
        Ok(FastPathCounters {
            delivered: sum(Counter::Delivered)?,
            encapsulated: sum(Counter::Encapsulated)?,
            decapsulated: sum(Counter::Decapsulated)?,
            received: sum(Counter::Received)?,
            handed_over: sum(Counter::HandedOver)?,
            slow_path: sum(Counter::SlowPath)?,
            wrong_sender: sum(Counter::WrongSender)?,
            malformed: sum(Counter::Malformed)?,
            congestion_dropped: sum(Counter::CongestionDropped)?,
            stray: sum(Counter::Stray)?,
            unroutable: sum(Counter::Unroutable)?,
            errors: sum(Counter::Errors)?,
        })
    }
}

/// What all processors counted.
pub(super) fn sum(counters: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64, FastPathError> {
    let each = counters.get(&index, 0).map_err(object("read the counters"))?;
    Ok(each.iter().fold(0, |sum, count| sum.wrapping_add(*count)))
}

/// What shall go and is not there is fine.
pub(super) fn removed(outcome: Result<(), MapError>) -> Result<(), MapError> {
    match outcome {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(MapError::KeyNotFound) => Ok(()),
        other => other,
    }
}
