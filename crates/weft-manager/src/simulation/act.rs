//! What disturbs a group.

use std::sync::Arc;
use std::time::Duration;

use super::disk::Death;
use super::host::{Life, member};
use super::world::World;
use crate::membership;

impl World {
    /// Disturbs until the time is over.
    pub(super) async fn disturb(self: &Arc<Self>) {
        let end = tokio::time::Instant::now() + self.plan.disturbed;
        while tokio::time::Instant::now() < end && self.checker.broken().is_none() {
            tokio::time::sleep(Duration::from_millis(self.number(200..3000))).await;
            match self.number(0..100) {
                0..15 => self.cut_apart(),
                15..25 => self.cut_one_way(),
                25..32 => self.isolate_leader(),
                32..50 => self.end_some(),
                50..53 => self.end_all(),
                53..65 => self.slow_disk(),
                65..75 => self.bad_network(),
                75..81 => self.leap().await,
                81..85 => self.turn_wall_clock(),
                85..91 => self.hand_over(),
                91..96 => self.snapshot(),
                _ => self.change_members(),
            }
        }
    }

    /// Two halves, of any size.
    fn cut_apart(self: &Arc<Self>) {
        let hosts = self.hosts();
        let left: Vec<bool> = (0..hosts).map(|_| self.number(0..2) == 0).collect();
        let apart = |a: usize, b: usize| left[a] != left[b];
        self.cut(
            (0..hosts).flat_map(|a| (0..hosts).map(move |b| (a, b))).filter(|(a, b)| apart(*a, *b)).collect(),
        );
    }

    fn cut_one_way(self: &Arc<Self>) {
        let (a, b) = (self.any_host(), self.any_host());
        self.cut(vec![(a, b)]);
    }

    fn isolate_leader(self: &Arc<Self>) {
        let Some((leader, _)) = self.leader() else { return };
        let others = (0..self.hosts()).filter(|other| *other != leader);
        self.cut(others.flat_map(|other| [(leader, other), (other, leader)]).collect());
    }

    fn cut(self: &Arc<Self>, ways: Vec<(usize, usize)>) {
        self.trace(|| format!("cut {ways:?}"));
        self.count(|counts| counts.cuts += 1);
        self.shut(&ways);
        let time = Duration::from_millis(self.number(300..9000));
        self.later(time, move |world| world.reopen(&ways));
    }

    fn end_some(self: &Arc<Self>) {
        let leader = self.leader().map(|(host, _)| host);
        // The leader is the most interesting one.
        let host = leader.filter(|_| self.number(0..3) == 0).unwrap_or_else(|| self.any_host());
        self.end_one(host);
    }

    /// The whole room goes dark.
    fn end_all(self: &Arc<Self>) {
        (0..self.hosts()).for_each(|host| self.end_one(host));
    }

    fn end_one(self: &Arc<Self>, host: usize) {
        let Some(life) = self.take_life(host) else { return };
        let downtime = Duration::from_millis(self.number(10..7000));
        let how = self.number(0..3);
        self.trace(|| format!("host {host} ends ({how}) for {downtime:?}"));
        let death = match how {
            0 => Death::PowerLoss,
            1 => Death::Kill,
            _ => return self.stop_for(host, life, downtime),
        };
        self.count(|counts| match death {
            Death::PowerLoss => counts.power_losses += 1,
            Death::Kill => counts.kills += 1,
        });
        let left = life.die(&self.disk(host), death);
        self.put_disk(host, left);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(downtime).await;
            world.bring_up(host).await;
        });
    }

    fn stop_for(self: &Arc<Self>, host: usize, life: Life, downtime: Duration) {
        self.count(|counts| counts.stops += 1);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            life.stop().await;
            tokio::time::sleep(downtime).await;
            world.bring_up(host).await;
        });
    }

    fn slow_disk(self: &Arc<Self>) {
        let host = self.any_host();
        self.count(|counts| counts.slow_disks += 1);
        let time = Duration::from_millis(self.number(500..8000));
        if self.number(0..2) == 0 {
            self.trace(|| format!("disk of {host} stalls for {time:?}"));
            self.disk(host).stall(time);
        } else {
            let slowest = Duration::from_millis(self.number(20..800));
            self.trace(|| format!("disk of {host} takes {slowest:?} for {time:?}"));
            self.disk(host).slow_down(slowest);
            self.later(time, move |world| world.disk(host).recover());
        }
    }

    fn bad_network(self: &Arc<Self>) {
        let loss = self.number(0..40) as f64 / 100.0;
        let slowest = Duration::from_millis(self.number(1..600));
        self.trace(|| format!("network loses {loss} and takes {slowest:?}"));
        self.set_network(loss, slowest);
        self.later(Duration::from_millis(self.number(500..8000)), |world| world.good_network());
    }

    /// The clock leaps for all: the machine under all hosts was suspended.
    async fn leap(self: &Arc<Self>) {
        self.count(|counts| counts.leaps += 1);
        let time = Duration::from_millis(self.number(100..20_000));
        self.trace(|| format!("the clock leaps by {time:?}"));
        tokio::time::advance(time).await;
    }

    /// One host's calendar goes wrong, by up to a year to either side.
    fn turn_wall_clock(self: &Arc<Self>) {
        self.count(|counts| counts.leaps += 1);
        let (host, days) = (self.any_host(), self.number(0..730) as i64 - 365);
        self.set_wall_clock(host, days * 86_400);
    }

    fn hand_over(self: &Arc<Self>) {
        let Some((_, leader)) = self.leader() else { return };
        let to = self.any_host();
        let Some(target) = self.life(to) else { return };
        self.trace(|| format!("the leader hands over to {to}"));
        tokio::spawn(async move {
            // Another leader, a member that is gone: an answer is all that matters.
            let _ = leader.raft().hand_over(target.raft().raft_id()).await;
        });
    }

    fn snapshot(self: &Arc<Self>) {
        let Some(life) = self.life(self.any_host()) else { return };
        tokio::spawn(async move { life.raft().take_image().await });
    }

    /// Lets the spare host in, or takes a member out and makes it the spare.
    fn change_members(self: &Arc<Self>) {
        if !self.begin_change() {
            return;
        }
        self.count(|counts| counts.changes += 1);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            match world.spare() {
                Some(host) => world.let_in(host).await,
                None => world.take_out().await,
            }
            world.end_change();
        });
    }

    /// Asks until the host is a member, as a manager that joins does.
    pub(super) async fn let_in(self: &Arc<Self>, host: usize) {
        self.trace(|| format!("host {host} joins"));
        self.no_longer_spare();
        self.bring_up(host).await;
        loop {
            if let (Some(life), Some((_, leader))) = (self.life(host), self.leader())
                && leader.raft().admit(life.raft().raft_id(), member(host)).await.is_ok()
            {
                return self.trace(|| format!("host {host} is in"));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Asks until the host is no member, as the keeper of the managers' record does.
    async fn take_out(self: &Arc<Self>) {
        let leader = self.leader().map(|(host, _)| host);
        let host = self.any_host();
        let Some(victim) = self.life(host).filter(|_| Some(host) != leader) else { return };
        let raft_id = victim.raft().raft_id();
        self.trace(|| format!("host {host} is taken out"));
        loop {
            match self.leader() {
                // The next leader takes this one out.
                Some((at, leader)) if at == host => drop(membership::hand_over(&leader.core).await),
                Some((_, leader)) if leader.raft().expel(raft_id).await.is_ok() => break,
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.trace(|| format!("host {host} is out"));
        self.retire(host).await;
    }
}
