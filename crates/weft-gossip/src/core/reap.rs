//! Forgetting, after the times within which things could come back.

use super::member::{ME, MemberId, Standing};
use super::{Core, Out};
use crate::{Text, Tick, TimerKind};

impl Core {
    pub(super) fn reap(&mut self, now: Tick, out: &mut Out) {
        self.reap_entries(now);
        self.reap_networks(now);
        self.reap_members(now, out);
        self.arm(TimerKind::Reap, now + self.config.timing.reap_interval, out);
    }

    fn reap_entries(&mut self, now: Tick) {
        for own in self.networks.values_mut() {
            for records in own.records.values_mut() {
                records.retain(|_, record| record.forget_at.is_none_or(|at| at > now));
            }
            own.records.retain(|_, records| !records.is_empty());
        }
    }

    fn reap_networks(&mut self, now: Tick) {
        self.networks.retain(|_, own| own.left_until.is_none_or(|until| until > now));
        for id in self.members.ids() {
            let attachments = &mut self.members.get_mut(id).attachments;
            attachments.retain(|attachment| attachment.left_until.is_none_or(|until| until > now));
        }
    }

    fn reap_members(&mut self, now: Tick, out: &mut Out) {
        let timing = &self.config.timing;
        let (entries, members) = (timing.entry_lifetime, timing.member_lifetime);
        for id in self.members.ids() {
            let member = self.members.get(id);
            if id == ME || member.is_live() {
                continue;
            }
            let absent = now.since(member.standing_since);
            if member.standing == Standing::Failed && absent >= entries {
                self.drop_all_records(id, out);
            }
            if absent >= members {
                self.forget_member(id, out);
            }
        }
    }

    fn drop_all_records(&mut self, id: MemberId, out: &mut Out) {
        let networks: Vec<Text> = self.networks.keys().cloned().collect();
        for network in networks {
            self.drop_records(&network, id, out);
        }
    }

    fn forget_member(&mut self, id: MemberId, out: &mut Out) {
        self.drop_member(id, out);
        self.forget_probe_of(id);
        self.members.remove(id);
    }
}
