//! What is there, brought to what is wished.

use std::collections::{BTreeMap, BTreeSet};

use weft_plan::{FastPath, NamespaceRef, WayOut};
use weft_types::{Vni, error_chain};

use super::attach::{self, Outcome, Wishes};
use super::folder::{Place, remove};
use super::layout::{self, Key, NO_SETTINGS, STATIONS_MAX, Settings, Station};
use super::maps::Maps;
use super::programs;
use super::survey::{self, Survey};
use super::{Applied, FastPathEngine, FastPathError, FastPathReport};
use crate::Netns;

/// A wish, and what is there of its interfaces.
type Target<'a> = Option<(&'a FastPath, &'a Survey)>;

impl FastPathEngine {
    pub(super) fn reconcile(&mut self, desired: Option<&FastPath>) -> Result<FastPathReport, FastPathError> {
        let mut report = FastPathReport::default();
        let mut survey = desired.map(Survey::of).transpose()?;
        if let Some(survey) = &mut survey {
            report.absent = std::mem::take(&mut survey.absent);
        }
        let target = desired.zip(survey.as_ref());
        self.keep_pins(&mut report)?;
        let settings = target.map_or(NO_SETTINGS, |(desired, survey)| layout::settings_of(desired, survey));
        let optimistic = stations(target, &BTreeSet::new());
        self.forget(settings, &optimistic, &mut report)?;
        let wishes = target.map(|(desired, survey)| attach::wishes(desired, survey)).unwrap_or_default();
        self.leave_places(&wishes, &mut report)?;
        self.load(target, &mut report);
        self.let_forward(target, &mut report);
        let failed = self.settle(&wishes, &mut report);
        let stations = stations(target, &failed);
        self.enter(&stations, &mut report)?;
        self.drop_programs(desired)?;
        self.applied = Some(Applied {
            settings,
            stations,
            places: places(&wishes)
                .filter(|place| !failed.contains(&(place.namespace, place.interface)))
                .collect(),
            namespaces: target.map(|(desired, survey)| namespaces(desired, survey)).unwrap_or_default(),
        });
        Ok(report)
    }

    /// Pins that somebody removed: without them the next daemon would find nothing. Maps are made anew, as only their
    /// programs still know the old ones.
    fn keep_pins(&mut self, report: &mut FastPathReport) -> Result<(), FastPathError> {
        if self.maps.are_pinned(&self.folder) {
            return Ok(());
        }
        report.repaired.push("pins of the maps".to_owned());
        self.maps = Maps::open(&self.folder)?;
        self.programs.clear();
        Ok(())
    }

    /// Settings, and no station that will not be or will be another. Frames for them take the bridges until the end.
    fn forget(
        &mut self,
        settings: Settings,
        wished: &BTreeMap<Key, Station>,
        report: &mut FastPathReport,
    ) -> Result<(), FastPathError> {
        let present = self.maps.stations()?;
        let other_settings = self.maps.settings()? != settings;
        let (mut removed, mut foreign) = (0, 0);
        for (key, station) in &present {
            if !other_settings && wished.get(key) == Some(station) {
                continue;
            }
            self.maps.remove_station(key)?;
            let ours = self.applied.as_ref().is_none_or(|applied| applied.stations.get(key) == Some(station));
            *(if ours { &mut removed } else { &mut foreign }) += 1;
        }
        told(&mut report.changed, removed, "stations removed");
        told(&mut report.repaired, foreign, "stations that somebody else entered");
        if other_settings {
            self.maps.set_settings(settings)?;
            let was = self.applied.as_ref().is_some_and(|applied| applied.settings == settings);
            let list = if was { &mut report.repaired } else { &mut report.changed };
            list.push("settings".to_owned());
        }
        Ok(())
    }

    /// New stations, once their programs are there.
    fn enter(
        &mut self,
        wished: &BTreeMap<Key, Station>,
        report: &mut FastPathReport,
    ) -> Result<(), FastPathError> {
        let present = self.maps.stations()?;
        for key in present.keys().filter(|key| !wished.contains_key(*key)) {
            self.maps.remove_station(key)?;
        }
        let (mut entered, mut lost) = (0, 0);
        for (key, station) in wished.iter().take(STATIONS_MAX) {
            if present.get(key) == Some(station) {
                continue;
            }
            self.maps.set_station(key, station)?;
            let known =
                self.applied.as_ref().is_some_and(|applied| applied.stations.get(key) == Some(station));
            *(if known { &mut lost } else { &mut entered }) += 1;
        }
        told(&mut report.changed, entered, "stations entered");
        told(&mut report.repaired, lost, "stations that were lost");
        if wished.len() > STATIONS_MAX {
            let error = FastPathError::Full { wished: wished.len(), room: STATIONS_MAX };
            report.failed.push(error.to_string());
        }
        Ok(())
    }

    /// Programs leave places where they are not wished any more.
    fn leave_places(
        &mut self,
        wishes: &BTreeMap<u64, Wishes>,
        report: &mut FastPathReport,
    ) -> Result<(), FastPathError> {
        let wished: BTreeSet<Place> = places(wishes).collect();
        let taken: BTreeSet<_> = wished.iter().map(|place| (place.namespace, place.interface)).collect();
        for place in self.folder.pins()? {
            if wished.contains(&place) {
                continue;
            }
            // Where another program comes, it takes the place of this one.
            let becomes_free = !taken.contains(&(place.namespace, place.interface));
            let netns = if becomes_free { self.namespace(place.namespace) } else { None };
            attach::leave(self.attachment, place, netns.as_ref(), &self.folder)?;
            report.changed.push(format!("{} leaves interface {}", place.program.name(), place.interface));
        }
        Ok(())
    }

    /// A namespace by its number, if it is still the one that it was, or the daemon's own.
    fn namespace(&self, id: u64) -> Option<Netns> {
        let known = self.applied.as_ref().and_then(|applied| applied.namespaces.get(&id).cloned());
        let candidates = known.into_iter().chain([NamespaceRef::host()]);
        let mut opened = candidates.filter_map(|name| Netns::resolve(&name).ok());
        opened.find(|netns| netns.id().is_ok_and(|found| found == id))
    }

    /// Programs of the host and of every segment. What cannot be loaded is left to the bridges.
    fn load(&mut self, target: Target<'_>, report: &mut FastPathReport) {
        let Some((desired, _)) = target else { return };
        let all = desired.segments.keys().map(|vni| Some(*vni)).chain([None]);
        for of in all {
            if self.programs.contains_key(&of) && self.programs_are_pinned(of) {
                continue;
            }
            let was_there = self.programs.remove(&of).is_some();
            let what =
                of.map_or("the host's programs".to_owned(), |vni| format!("programs of {}", vni.get()));
            match programs::adopt_or_load(&self.folder, &self.build, of, &self.maps) {
                Ok((programs, loaded)) => {
                    self.programs.insert(of, programs);
                    match (was_there, loaded) {
                        (true, _) => report.repaired.push(what),
                        (false, true) => report.changed.push(format!("{what} loaded")),
                        (false, false) => {}
                    }
                }
                Err(error) => report.failed.push(error_chain(&error)),
            }
        }
    }

    fn programs_are_pinned(&self, of: Option<Vni>) -> bool {
        self.folder
            .programs(&self.build, of)
            .is_ok_and(|folder| programs::names(of).iter().all(|name| folder.join(name.name()).exists()))
    }

    /// Programs come to their places. Gives back where that failed.
    fn settle(
        &mut self,
        wishes: &BTreeMap<u64, Wishes>,
        report: &mut FastPathReport,
    ) -> BTreeSet<(u64, u32)> {
        let mut failed = BTreeSet::new();
        for wishes in wishes.values() {
            let settled = attach::settle(self.attachment, wishes, &mut self.programs, &self.folder);
            let outcomes = settled.unwrap_or_else(|error| {
                let words = error_chain(&error);
                wishes.places.iter().map(|_| Outcome::Failed(words.clone())).collect()
            });
            for ((place, link), outcome) in wishes.places.iter().zip(outcomes) {
                let what = format!("{} on {link}", place.program.name());
                let was = self.applied.as_ref().is_some_and(|applied| applied.places.contains(place));
                match outcome {
                    Outcome::Stood => {}
                    // This build's programs were there: somebody else's doing.
                    Outcome::Attached | Outcome::Replaced if was => report.repaired.push(what),
                    Outcome::Attached => report.changed.push(what),
                    Outcome::Replaced => report.changed.push(format!("{what} replaced")),
                    Outcome::Failed(words) => {
                        failed.insert((place.namespace, place.interface));
                        report.failed.push(format!("{what}: {words}"));
                    }
                }
            }
        }
        failed
    }

    fn let_forward(&self, target: Target<'_>, report: &mut FastPathReport) {
        let Some((desired, survey)) = target else { return };
        for segment in desired.segments.values() {
            let WayOut::Uplink { outside, .. } = &segment.way_out else { continue };
            let Some(device) = survey.host.devices.get(outside) else { continue };
            match survey::let_forward(&survey.host, outside) {
                Ok(false) => {}
                Ok(true) => {
                    let place =
                        |place: &Place| (place.namespace, place.interface) == (survey.host.id, device.index);
                    let was = self.applied.as_ref().is_some_and(|applied| applied.places.iter().any(place));
                    let list = if was { &mut report.repaired } else { &mut report.changed };
                    list.push(format!("routes for {outside}"));
                }
                Err(error) => report.failed.push(error_chain(&error)),
            }
        }
    }

    /// Programs of segments that are gone, of other builds, and maps of other layouts.
    fn drop_programs(&mut self, desired: Option<&FastPath>) -> Result<(), FastPathError> {
        let wished = |vni: &Vni| desired.is_some_and(|desired| desired.segments.contains_key(vni));
        self.programs.retain(|of, _| of.as_ref().map_or(desired.is_some(), wished));
        for vni in self.folder.segments(&self.build)?.into_iter().filter(|vni| !wished(vni)) {
            remove(&self.folder.programs(&self.build, Some(vni))?)?;
        }
        self.folder.forget_others(&self.build)
    }
}

fn stations(target: Target<'_>, failed: &BTreeSet<(u64, u32)>) -> BTreeMap<Key, Station> {
    let Some((desired, survey)) = target else { return BTreeMap::new() };
    layout::stations(desired, survey, |space, device| !failed.contains(&(space.id, device.index)))
}

fn places(wishes: &BTreeMap<u64, Wishes>) -> impl Iterator<Item = Place> {
    wishes.values().flat_map(|wishes| wishes.places.iter().map(|(place, _)| *place))
}

fn namespaces(desired: &FastPath, survey: &Survey) -> BTreeMap<u64, NamespaceRef> {
    let networks = survey.spaces.iter().map(|(name, space)| (space.id, name.clone()));
    networks.chain([(survey.host.id, desired.host.clone())]).collect()
}

fn told(list: &mut Vec<String>, count: usize, what: &str) {
    if count > 0 {
        list.push(format!("{count} {what}"));
    }
}
