//! The keys of gossip and of encrypted networks that every node gets.
//!
//! Three per subsystem, told apart by Lamport time, not by value; the second oldest is the primary one. The clock
//! begins at a random number below 65,536 and counts each key (SwarmKit manager/keymanager). Rotation drops the oldest
//! and adds one: a key is known to everyone for a whole period before anyone sends with it, and for another one after.

use std::sync::Weak;

use rand::RngCore;
use tokio::time::{MissedTickBehavior, interval_at};
use weft_wire::swarmkit::{Cluster, EncryptionKey, encryption_key::Algorithm};

use crate::brain::Brain;
use crate::error::ControlError;

const SUBSYSTEMS: [&str; 2] = ["networking:gossip", "networking:ipsec"];
const KEYS_EACH: usize = 3;
const KEY_LEN: usize = 16;
/// Bound of the first Lamport time.
const FIRST_TIME_BELOW: u64 = 65_536;

/// The first keys of a swarm, and the clock behind them.
pub(crate) fn first_keys(rng: &mut impl RngCore) -> (Vec<EncryptionKey>, u64) {
    let mut clock = rng.next_u64() % FIRST_TIME_BELOW;
    let mut keys = Vec::with_capacity(SUBSYSTEMS.len() * KEYS_EACH);
    for subsystem in SUBSYSTEMS {
        for _ in 0..KEYS_EACH {
            clock += 1;
            keys.push(new_key(subsystem, clock, rng));
        }
    }
    (keys, clock)
}

fn new_key(subsystem: &str, lamport_time: u64, rng: &mut impl RngCore) -> EncryptionKey {
    let mut key = vec![0; KEY_LEN];
    rng.fill_bytes(&mut key);
    EncryptionKey {
        subsystem: subsystem.to_owned(),
        algorithm: Algorithm::Aes128Gcm.into(),
        key,
        lamport_time,
    }
}

/// The keys after one rotation: of each subsystem the oldest goes once there are three, and a new one comes.
pub(crate) fn next_keys(cluster: &Cluster, rng: &mut impl RngCore) -> Cluster {
    let mut clock = cluster.encryption_key_lamport_clock;
    let mut keys = Vec::with_capacity(cluster.network_bootstrap_keys.len());
    for subsystem in SUBSYSTEMS {
        let of_subsystem = cluster.network_bootstrap_keys.iter().filter(|key| key.subsystem == subsystem);
        let mut mine: Vec<EncryptionKey> = of_subsystem.cloned().collect();
        mine.sort_by_key(|key| key.lamport_time);
        let surplus = (mine.len() + 1).saturating_sub(KEYS_EACH);
        mine.drain(..surplus);
        clock += 1;
        mine.push(new_key(subsystem, clock, rng));
        keys.append(&mut mine);
    }
    Cluster { network_bootstrap_keys: keys, encryption_key_lamport_clock: clock, ..cluster.clone() }
}

/// Rotates while this manager leads. A new leader begins a new period: early rotations are as harmless as late ones.
pub(crate) async fn rotate(brain: Weak<Brain>) {
    let Some(period) = brain.upgrade().map(|brain| brain.core.timing.key_rotation) else { return };
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(brain) = brain.upgrade() else { return };
        let rotated: Result<u64, ControlError> = brain
            .core
            .change(|view, transaction| {
                let Some(cluster) = view.cluster() else { return Ok(0) };
                let next = next_keys(cluster, &mut rand::rng());
                let clock = next.encryption_key_lamport_clock;
                transaction.update(next);
                Ok(clock)
            })
            .await;
        match rotated {
            Ok(clock) => tracing::info!(clock, "rotated the keys of gossip and of encrypted networks"),
            Err(error) => tracing::error!(%error, "the network keys cannot be rotated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_drops_the_oldest_and_adds_the_newest_of_each() {
        let (network_bootstrap_keys, clock) = first_keys(&mut rand::rng());
        let mut cluster =
            Cluster { network_bootstrap_keys, encryption_key_lamport_clock: clock, ..Cluster::default() };
        for _ in 0..5 {
            let before = cluster;
            cluster = next_keys(&before, &mut rand::rng());
            assert_eq!(cluster.network_bootstrap_keys.len(), 6);
            for (at, subsystem) in SUBSYSTEMS.into_iter().enumerate() {
                let of = |cluster: &Cluster| -> Vec<u64> {
                    let keys = cluster.network_bootstrap_keys.iter();
                    keys.filter(|key| key.subsystem == subsystem).map(|key| key.lamport_time).collect()
                };
                let (old, new) = (of(&before), of(&cluster));
                assert_eq!(
                    new[..2],
                    old[1..],
                    "the two younger ones stay, so that the next primary is known"
                );
                assert_eq!(new[2], before.encryption_key_lamport_clock + 1 + at as u64);
            }
        }
    }

    #[test]
    fn three_of_each_with_times_that_count_on() {
        let (keys, clock) = first_keys(&mut rand::rng());
        assert_eq!(keys.len(), 6);
        assert!(keys[..3].iter().all(|key| key.subsystem == "networking:gossip"));
        assert!(keys[3..].iter().all(|key| key.subsystem == "networking:ipsec"));
        assert!(keys.windows(2).all(|pair| pair[0].lamport_time + 1 == pair[1].lamport_time));
        assert_eq!(keys[5].lamport_time, clock);
        assert!(keys.iter().all(|key| key.key.len() == 16));
    }
}
