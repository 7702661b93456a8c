//! How many streams peers may have open at a time.
//!
//! Whoever reaches the port may open a stream and send up to 20 MiB before the first byte of it can be judged. So there
//! is a limit for all, which bounds the memory, and one for each address, so that one peer that is mad leaves room for
//! the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Streams at a time. A cluster of hundreds opens few per second, each for some milliseconds.
const ALL: usize = 64;
/// Of these, streams of one address: a peer that joined many networks at once sends one for each.
const PER_ADDRESS: usize = 16;

/// The streams that are being read.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Streams {
    /// A place for one more stream, unless there are too many.
    pub(super) fn admit(&self, from: IpAddr) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(&from).copied().unwrap_or(0);
        if own >= PER_ADDRESS || open.values().sum::<usize>() >= ALL {
            return None;
        }
        open.insert(from, own + 1);
        drop(open);
        Some(Place { streams: self.clone(), from })
    }
}

/// One stream's place; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    streams: Streams,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> IpAddr {
        IpAddr::from([10, 0, (n >> 8) as u8, n as u8])
    }

    #[test]
    fn one_address_leaves_room_for_the_others() {
        let streams = Streams::default();
        let held: Vec<Place> = std::iter::from_fn(|| streams.admit(address(1))).collect();
        assert_eq!(held.len(), PER_ADDRESS);
        assert!(streams.admit(address(2)).is_some());
        drop(held);
        assert!(streams.admit(address(1)).is_some());
    }

    #[test]
    fn all_together_have_a_limit_and_nothing_is_kept_of_who_went() {
        let streams = Streams::default();
        let held: Vec<Place> = (0..1000).filter_map(|n| streams.admit(address(n))).collect();
        assert_eq!(held.len(), ALL);
        drop(held);
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
