//! Coming back after a restart under the same name.

use std::sync::Arc;

use rand::seq::IndexedRandom as _;
use weft_types::GossipName;
use weft_wire::memberlist::Versions;

use super::clock::Lamport;
use super::member::{Attachment, ME, Standing};
use super::tables::{EntryKey, Record};
use super::{Core, Out};
use crate::gossip::Rng;
use crate::message::{Alive, TableChange, TableEvent};
use crate::{Config, GossipError, SavedEntry, SavedMember, SavedNetwork, Snapshot, Text, Tick};

/// The snapshot may be older than the last event that this node sent: skip what it may have used since.
const CLOCK_GAP: u64 = 1000;
/// Saved members that are asked where the cluster is, beside the given addresses.
const MEMBERS_TO_ASK: usize = 3;

impl Core {
    /// What is kept across a restart, without keys.
    pub fn snapshot(&self, now: Tick) -> Snapshot {
        let me = &self.members.get(ME).alive;
        let members = self.members.iter().filter(|(id, m)| *id != ME && m.standing == Standing::Active);
        Snapshot {
            name: self.name.as_ref().into(),
            advertise: me.address,
            incarnation: me.incarnation,
            network_clock: self.network_clock.time(),
            table_clock: self.table_clock.time(),
            keys: Vec::new(),
            join: self.search.addresses.clone(),
            members: members
                .map(|(_, member)| SavedMember {
                    name: member.alive.node.as_ref().into(),
                    address: member.alive.address,
                    incarnation: member.alive.incarnation,
                    versions: member.alive.versions.to_bytes(),
                    networks: member
                        .attachments
                        .iter()
                        .filter(|attachment| attachment.left_until.is_none())
                        .map(|attachment| (attachment.network.as_ref().into(), attachment.time))
                        .collect(),
                })
                .collect(),
            networks: self
                .joined_networks()
                .into_iter()
                .map(|network| SavedNetwork {
                    entries: self.saved_entries(now, &network),
                    network: network.as_ref().into(),
                })
                .collect(),
        }
    }

    fn saved_entries(&self, now: Tick, network: &Text) -> Vec<SavedEntry> {
        let records = self.networks.get(network).into_iter().flat_map(|own| own.records.values());
        records
            .flat_map(|records| records.values())
            .map(|record| SavedEntry {
                owner: record.event.owner.as_ref().into(),
                table: record.event.table.as_ref().into(),
                key: record.event.key.as_ref().into(),
                value: record.event.value.to_vec(),
                time: record.event.time,
                deleted_for: record
                    .forget_at
                    .map(|at| u32::try_from(at.since(now).as_secs()).unwrap_or(u32::MAX).max(1)),
            })
            .collect()
    }

    /// A node that continues where `snapshot` was taken.
    pub fn restore(
        now: Tick,
        config: Config,
        snapshot: &Snapshot,
        rng: Rng,
        out: &mut Out,
    ) -> Result<Self, GossipError> {
        if snapshot.advertise != config.advertise {
            return Err(GossipError::AddressChanged { saved: snapshot.advertise, now: config.advertise });
        }
        for name in snapshot.members.iter().map(|member| &member.name).chain([&snapshot.name]) {
            let _: GossipName = name.parse().map_err(|_| GossipError::DamagedSnapshot("name of a member"))?;
        }
        let incarnation = snapshot.incarnation.saturating_add(1).min(u32::MAX / 4);
        let mut core = Self::start(now, config, rng, snapshot.name.as_str().into(), incarnation, out);
        core.network_clock = Lamport::starting_at(snapshot.network_clock.saturating_add(CLOCK_GAP));
        core.table_clock = Lamport::starting_at(snapshot.table_clock.saturating_add(CLOCK_GAP));
        for network in &snapshot.networks {
            core.join_network(now, &network.network, out)?;
        }
        for member in &snapshot.members {
            core.restore_member(now, member, out);
        }
        for network in &snapshot.networks {
            for entry in &network.entries {
                core.restore_entry(now, &network.network, entry);
            }
        }
        for network in core.joined_networks() {
            for id in core.members.ids() {
                core.refresh_entries(&network, id, out);
            }
        }
        core.rejoin(now, snapshot, out);
        core.wake(now, out);
        Ok(core)
    }

    /// Members count as alive until the failure detector finds otherwise.
    fn restore_member(&mut self, now: Tick, member: &SavedMember, out: &mut Out) {
        let alive = Alive {
            incarnation: member.incarnation,
            node: member.name.as_str().into(),
            address: member.address,
            meta: Arc::from([]),
            versions: Versions::from(member.versions),
        };
        self.on_alive(now, &alive, out);
        let Some(id) = self.members.find(&member.name) else { return };
        if id == ME {
            return;
        }
        self.members.get_mut(id).attachments = member
            .networks
            .iter()
            .map(|(network, time)| Attachment {
                network: network.as_str().into(),
                time: *time,
                left_until: None,
            })
            .collect();
        self.show_member(now, id, out);
    }

    fn restore_entry(&mut self, now: Tick, network: &str, entry: &SavedEntry) {
        let Some(owner) = self.members.find(&entry.owner) else { return };
        // Own entries keep their time, too: a peer that has them hears nothing new, and one that remembers a later
        // change tells of it in the first exchange and is contradicted.
        let deleted = entry.deleted_for.is_some();
        let event = Arc::new(TableEvent {
            change: if deleted { TableChange::Delete } else { TableChange::Create },
            time: entry.time,
            owner: entry.owner.as_str().into(),
            network: network.into(),
            table: entry.table.as_str().into(),
            key: entry.key.as_str().into(),
            value: entry.value.as_slice().into(),
            residual_seconds: entry.deleted_for.unwrap_or(0),
        });
        let forget_at = entry.deleted_for.map(|seconds| now + std::time::Duration::from_secs(seconds.into()));
        let key = EntryKey { table: event.table.clone(), key: event.key.clone() };
        if let Some(own) = self.networks.get_mut(network) {
            own.records.entry(owner).or_default().insert(key, Record { event, forget_at, told: None });
        }
    }

    fn rejoin(&mut self, now: Tick, snapshot: &Snapshot, out: &mut Out) {
        let members: Vec<_> = snapshot.members.iter().map(|member| member.address).collect();
        self.search.addresses = snapshot.join.clone();
        let mut ask: Vec<_> = members.choose_multiple(&mut self.rng, MEMBERS_TO_ASK).copied().collect();
        ask.extend(&snapshot.join);
        ask.retain(|address| *address != self.config.advertise);
        ask.sort_unstable();
        ask.dedup();
        if ask.is_empty() {
            self.found_cluster(now, out);
        } else {
            self.ask_to_join(&ask, out);
        }
    }
}
