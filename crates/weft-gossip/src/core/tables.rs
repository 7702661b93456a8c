//! Entries of the networks that this node is on, and what has been told of them.
//!
//! Entries are kept per owner, so a key that two members claim is two entries, and nobody changes another's.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Phase;
use super::member::{ME, MemberId, Standing};
use super::networks::OwnNetwork;
use super::{Core, Out};
use crate::message::{TableChange, TableEvent};
use crate::{EntryView, Event, GossipError, Text, Tick};

/// Relayed news from exchanges of tables is dropped beyond this queue length, as in NetworkDB: at 100 per second it
/// is about what gossip carries between two exchanges.
const MOST_RELAYED_FROM_SYNC: usize = 500;

/// An entry within a network and an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryKey {
    pub(super) table: Text,
    pub(super) key: Text,
}

/// What is known of an entry.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Its last change.
    pub(super) event: Arc<TableEvent>,
    /// When a deleted entry is forgotten.
    pub(super) forget_at: Option<Tick>,
    /// What the node above believes.
    pub(super) told: Option<Arc<TableEvent>>,
}

impl Record {
    pub(super) fn is_deleted(&self) -> bool {
        self.event.change == TableChange::Delete
    }

    /// Brings what was told in line with what is; the event to tell, and whether it is an end.
    fn retell(&mut self, visible: bool) -> Option<(Arc<TableEvent>, bool)> {
        let want = (visible && !self.is_deleted()).then(|| self.event.clone());
        let told = std::mem::replace(&mut self.told, want.clone());
        match (told, want) {
            (Some(told), Some(want)) if told.value == want.value => None,
            (_, Some(want)) => Some((want, false)),
            (Some(told), None) => Some((told, true)),
            (None, None) => None,
        }
    }
}

fn view(event: &TableEvent, owner_address: SocketAddr) -> EntryView {
    EntryView {
        network: event.network.clone(),
        table: event.table.clone(),
        key: event.key.clone(),
        value: event.value.clone(),
        owner: event.owner.clone(),
        owner_address,
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

impl Core {
    /// Create or change an entry of this node; see [`crate::Gossip::put_entry`].
    pub fn put_entry(
        &mut self,
        now: Tick,
        network: &str,
        table: &str,
        key: &str,
        value: &[u8],
        out: &mut Out,
    ) -> Result<(), GossipError> {
        let (network, key) = self.own_key(network, table, key)?;
        let known = self.own_record(&network, &key).filter(|record| !record.is_deleted());
        if known.is_some_and(|record| *record.event.value == *value) {
            return Ok(());
        }
        let change = if known.is_some() { TableChange::Update } else { TableChange::Create };
        let event = TableEvent {
            change,
            time: self.table_clock.time() + 1,
            owner: self.name.clone(),
            network: network.clone(),
            table: key.table.clone(),
            key: key.key.clone(),
            value: value.into(),
            residual_seconds: 0,
        };
        let (len, limit) = (super::spread::event_len(&event), self.largest_event());
        if len > limit {
            return Err(GossipError::EntryTooLarge { key: key.key.as_ref().into(), len, limit });
        }
        self.table_clock.increment();
        self.store_own(&network, key, event, None);
        self.wake(now, out);
        Ok(())
    }

    /// Delete an entry of this node; see [`crate::Gossip::delete_entry`].
    pub fn delete_entry(
        &mut self,
        now: Tick,
        network: &str,
        table: &str,
        key: &str,
        out: &mut Out,
    ) -> Result<(), GossipError> {
        let missing = || GossipError::NoSuchEntry {
            network: network.to_owned(),
            table: table.to_owned(),
            key: key.to_owned(),
        };
        let (network, key) = self.own_key(network, table, key)?;
        let known = self.own_record(&network, &key).filter(|record| !record.is_deleted());
        let event = known.ok_or_else(missing)?.event.clone();
        self.bury(now, &network, key, &event);
        self.wake(now, out);
        Ok(())
    }

    fn own_key(&self, network: &str, table: &str, key: &str) -> Result<(Text, EntryKey), GossipError> {
        if self.phase != Phase::Taking {
            return Err(GossipError::Leaving);
        }
        match self.networks.get_key_value(network) {
            Some((name, own)) if own.is_joined() => {
                Ok((name.clone(), EntryKey { table: table.into(), key: key.into() }))
            }
            _ => Err(GossipError::NotOnNetwork(network.to_owned())),
        }
    }

    fn own_record(&self, network: &Text, key: &EntryKey) -> Option<&Record> {
        self.networks.get(network)?.records.get(&ME)?.get(key)
    }

    /// Marks an entry of this node as deleted, and says so.
    fn bury(&mut self, now: Tick, network: &Text, key: EntryKey, last: &TableEvent) {
        let lifetime = self.config.timing.entry_lifetime;
        let event = TableEvent {
            change: TableChange::Delete,
            time: self.table_clock.increment(),
            owner: self.name.clone(),
            residual_seconds: seconds(lifetime),
            ..last.clone()
        };
        self.store_own(network, key, event, Some(now + lifetime));
    }

    /// On leaving a network: should this node return before the others noticed, its old entries end anyway.
    pub(super) fn bury_own_records(&mut self, now: Tick, network: &Text) {
        let Some(records) = self.networks.get(network).and_then(|own| own.records.get(&ME)) else { return };
        let live: Vec<_> = records
            .iter()
            .filter(|(_, record)| !record.is_deleted())
            .map(|(key, record)| (key.clone(), record.event.clone()))
            .collect();
        for (key, event) in live {
            self.bury(now, network, key, &event);
        }
    }

    fn store_own(&mut self, network: &Text, key: EntryKey, event: TableEvent, forget_at: Option<Tick>) {
        let Some(own) = self.networks.get_mut(network) else { return };
        let event = Arc::new(event);
        if own.is_joined() {
            let len = super::spread::event_len(&event);
            own.own_news.push((key.clone(), self.name.clone()), event.clone(), len);
        }
        own.records.entry(ME).or_default().insert(key, Record { event, forget_at, told: None });
    }

    /// Says all entries of this node again.
    pub(super) fn queue_own_entries(&mut self, network: &Text) {
        let Some(own) = self.networks.get_mut(network) else { return };
        let Some(records) = own.records.get(&ME) else { return };
        for (key, record) in records {
            let len = super::spread::event_len(&record.event);
            own.own_news.push((key.clone(), self.name.clone()), record.event.clone(), len);
        }
    }

    /// An entry changed, by its owner's word. `synced`: it came in an exchange of tables.
    pub(super) fn on_table_event(&mut self, now: Tick, event: &Arc<TableEvent>, synced: bool, out: &mut Out) {
        if !self.table_clock.witness(event.time) {
            return;
        }
        if event.owner == self.name {
            self.on_own_entry_echo(now, event);
            return;
        }
        let Some(owner) = self.members.find(&event.owner) else { return };
        let member = self.members.get(owner);
        if member.standing == Standing::Left || !member.is_on(&event.network) {
            return;
        }
        let visible = member.standing == Standing::Active && self.allows(member.alive.address);
        let address = member.alive.address;
        let lifetime = self.config.timing.entry_lifetime;
        let largest = self.largest_event();
        let Some(own) = self.networks.get_mut(&event.network).filter(|own| own.is_joined()) else { return };

        let key = EntryKey { table: event.table.clone(), key: event.key.clone() };
        let records = own.records.entry(owner).or_default();
        let known = records.get_mut(&key);
        if known.as_ref().is_some_and(|record| record.event.time >= event.time) {
            return;
        }
        let deleted = event.change == TableChange::Delete;
        // Very old peers send no remaining time.
        let remaining = match event.residual_seconds {
            0 => lifetime,
            seconds => Duration::from_secs(seconds.into()).min(lifetime),
        };
        let forget_at = deleted.then(|| now + remaining);
        // A deletion of what nobody here knew is only worth relaying while it is fresh: it must not go round forever.
        let relay = own.in_sync && (known.is_some() || !deleted || synced && remaining > lifetime / 6);
        let record = match known {
            Some(record) => {
                record.event = event.clone();
                record.forget_at = forget_at;
                record
            }
            None => {
                let record = Record { event: event.clone(), forget_at, told: None };
                records.entry(key.clone()).or_insert(record)
            }
        };
        if let Some((event, end)) = record.retell(visible) {
            let view = view(&event, address);
            Self::tell(out, if end { Event::EntryDown(view) } else { Event::EntryUp(view) });
        }
        let len = super::spread::event_len(event);
        if relay && len <= largest && !(synced && own.relayed_news.len() > MOST_RELAYED_FROM_SYNC) {
            own.relayed_news.push((key, event.owner.clone()), event.clone(), len);
        }
    }

    /// Others say of this node's entry what is not so (any more): say it anew, later than they did.
    fn on_own_entry_echo(&mut self, now: Tick, event: &TableEvent) {
        let Ok((network, key)) = self.own_key(&event.network, &event.table, &event.key) else { return };
        match self.own_record(&network, &key) {
            Some(record) if record.event.time >= event.time => {}
            Some(record) if record.is_deleted() => self.bury(now, &network, key, event),
            Some(record) => {
                let again = TableEvent::clone(&record.event);
                let again = TableEvent { time: self.table_clock.increment(), ..again };
                self.store_own(&network, key, again, None);
            }
            None if event.change == TableChange::Delete => {}
            None => self.bury(now, &network, key, event),
        }
    }

    /// The managers' word on who may own entries; see [`crate::Gossip::allow_owners`].
    pub fn allow_owners(&mut self, _now: Tick, addresses: Option<BTreeSet<IpAddr>>, out: &mut Out) {
        if self.allowed == addresses {
            return;
        }
        self.allowed = addresses;
        for network in self.joined_networks() {
            let owners: Vec<MemberId> = self
                .networks
                .get(&network)
                .map(|own| own.records.keys().copied().collect())
                .unwrap_or_default();
            for owner in owners {
                self.refresh_entries(&network, owner, out);
            }
        }
    }

    fn allows(&self, address: SocketAddr) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&address.ip()))
    }

    /// Tells of `owner`'s entries what changed by its standing.
    pub(super) fn refresh_entries(&mut self, network: &Text, owner: MemberId, out: &mut Out) {
        if owner == ME {
            return;
        }
        let member = self.members.get(owner);
        let address = member.alive.address;
        let visible = member.standing == Standing::Active && self.allows(address);
        let Some(records) = self.networks.get_mut(network).and_then(|own| own.records.get_mut(&owner)) else {
            return;
        };
        for record in records.values_mut() {
            if let Some((event, end)) = record.retell(visible) {
                let view = view(&event, address);
                Self::tell(out, if end { Event::EntryDown(view) } else { Event::EntryUp(view) });
            }
        }
    }

    /// Forgets `owner`'s entries.
    pub(super) fn drop_records(&mut self, network: &Text, owner: MemberId, out: &mut Out) {
        let address = self.members.get(owner).alive.address;
        let Some(records) = self.networks.get_mut(network).and_then(|own| own.records.remove(&owner)) else {
            return;
        };
        for told in records.into_values().filter_map(|record| record.told) {
            Self::tell(out, Event::EntryDown(view(&told, address)));
        }
    }

    /// The present entries of others.
    pub fn entries(&self) -> impl Iterator<Item = EntryView> + '_ {
        self.networks.values().filter(|own| own.is_joined()).flat_map(move |own: &OwnNetwork| {
            own.records.iter().flat_map(move |(owner, records)| {
                let address = self.members.get(*owner).alive.address;
                records.values().filter_map(move |record| Some(view(record.told.as_ref()?, address)))
            })
        })
    }

    /// An entry of this node, unless it is deleted.
    pub fn own_entry(&self, network: &str, table: &str, key: &str) -> Option<&TableEvent> {
        let key = EntryKey { table: table.into(), key: key.into() };
        let record = self.networks.get(network)?.records.get(&ME)?.get(&key)?;
        (!record.is_deleted()).then(|| record.event.as_ref())
    }

    /// The entries of this node on `network`.
    pub fn own_entries(&self, network: &str) -> impl Iterator<Item = &TableEvent> + '_ {
        let records = self.networks.get(network).and_then(|own| own.records.get(&ME));
        records
            .into_iter()
            .flat_map(|records| records.values())
            .filter(|record| !record.is_deleted())
            .map(|record| record.event.as_ref())
    }
}
