//! The keys of gossip and of encrypted networks that every node gets.
//!
//! Three per subsystem, told apart by Lamport time, not by value; the second oldest is the primary one. The clock
//! begins at a random number below 65,536 and counts each key (SwarmKit manager/keymanager). Rotation drops the oldest
//! and adds one; it is not done here yet.

use rand::RngCore;
use weft_wire::swarmkit::{EncryptionKey, encryption_key::Algorithm};

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
            let mut key = vec![0; KEY_LEN];
            rng.fill_bytes(&mut key);
            keys.push(EncryptionKey {
                subsystem: subsystem.to_owned(),
                algorithm: Algorithm::Aes128Gcm.into(),
                key,
                lamport_time: clock,
            });
        }
    }
    (keys, clock)
}

#[cfg(test)]
mod tests {
    use super::*;

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
