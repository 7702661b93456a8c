//! News that is sent several times, to a few receivers each time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::FixedHasher;

/// How many pieces that do not fit are passed over before a packet counts as full.
const MISSES: usize = 8;
/// Replaced pieces are thrown out once they outnumber the others by this much.
const SLACK: usize = 64;

struct Piece<K, T> {
    id: u64,
    key: K,
    news: T,
    len: usize,
}

/// News by subject: a newer piece about the same subject replaces the older. What was sent least goes first.
///
/// Invariant: at most one live piece per subject, so the number of subjects bounds the queue.
pub(super) struct NewsQueue<K, T> {
    /// Index: how often its pieces were sent. Pieces whose id is not the one in `current` are dead.
    by_sends: Vec<VecDeque<Piece<K, T>>>,
    current: HashMap<K, u64, FixedHasher>,
    stored: usize,
    next_id: u64,
}

impl<K, T> Default for NewsQueue<K, T> {
    fn default() -> Self {
        Self { by_sends: vec![VecDeque::new()], current: HashMap::default(), stored: 0, next_id: 0 }
    }
}

/// What fits into a packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes left.
    pub(super) bytes: usize,
    /// Messages left.
    pub(super) messages: usize,
}

impl<K: Hash + Eq + Clone, T: Clone> NewsQueue<K, T> {
    /// Number of live pieces.
    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.current.contains_key(key)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds news of `len` bytes about `key`.
    pub(super) fn push(&mut self, key: K, news: T, len: usize) {
        let id = self.next_id;
        self.next_id += 1;
        self.current.insert(key.clone(), id);
        self.by_sends[0].push_back(Piece { id, key, news, len });
        self.stored += 1;
        if self.stored > 2 * self.current.len() + SLACK {
            self.compact();
        }
    }

    /// Hands out what fits into `room`, `overhead` bytes counted for each. A piece ends after `limit` sends.
    pub(super) fn take(&mut self, room: &mut Room, overhead: usize, limit: usize, mut give: impl FnMut(T)) {
        let mut misses = 0;
        let mut sent: Vec<(usize, Piece<K, T>)> = Vec::new();
        for (sends, pieces) in self.by_sends.iter_mut().enumerate() {
            let mut passed_over = 0;
            while misses < MISSES && room.messages > 0 && passed_over < pieces.len() {
                let Some(piece) = pieces.get(passed_over) else { break };
                if self.current.get(&piece.key) != Some(&piece.id) {
                    pieces.remove(passed_over);
                    self.stored -= 1;
                    continue;
                }
                if piece.len + overhead > room.bytes {
                    passed_over += 1;
                    misses += 1;
                    continue;
                }
                room.bytes -= piece.len + overhead;
                room.messages -= 1;
                give(piece.news.clone());
                if let Some(piece) = pieces.remove(passed_over) {
                    sent.push((sends + 1, piece));
                }
            }
        }
        for (sends, piece) in sent {
            self.put_back(sends, limit, piece);
        }
    }

    fn put_back(&mut self, sends: usize, limit: usize, piece: Piece<K, T>) {
        if sends >= limit {
            self.current.remove(&piece.key);
            self.stored -= 1;
            return;
        }
        while self.by_sends.len() <= sends {
            self.by_sends.push(VecDeque::new());
        }
        self.by_sends[sends].push_back(piece);
    }

    fn compact(&mut self) {
        for pieces in &mut self.by_sends {
            pieces.retain(|piece| self.current.get(&piece.key) == Some(&piece.id));
        }
        self.stored = self.current.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut NewsQueue<u8, &'static str>, bytes: usize, limit: usize) -> Vec<&'static str> {
        let mut out = Vec::new();
        queue.take(&mut Room { bytes, messages: 255 }, 2, limit, |news| out.push(news));
        out
    }

    #[test]
    fn the_least_sent_goes_first_and_all_end() {
        let mut queue = NewsQueue::default();
        queue.push(1, "old", 10);
        assert_eq!(take(&mut queue, 100, 2), ["old"]);
        queue.push(2, "new", 10);
        assert_eq!(take(&mut queue, 12, 2), ["new"]);
        assert_eq!(take(&mut queue, 100, 2), ["old", "new"]);
        assert!(queue.is_empty());
        assert_eq!(queue.stored, 0);
    }

    #[test]
    fn newer_news_replaces_older_of_the_same_subject() {
        let mut queue = NewsQueue::default();
        queue.push(1, "a", 10);
        queue.push(1, "b", 10);
        assert_eq!(queue.len(), 1);
        assert_eq!(take(&mut queue, 100, 4), ["b"]);
    }

    #[test]
    fn what_does_not_fit_waits_and_smaller_goes() {
        let mut queue = NewsQueue::default();
        queue.push(1, "large", 90);
        queue.push(2, "small", 10);
        assert_eq!(take(&mut queue, 50, 4), ["small"]);
        assert_eq!(take(&mut queue, 200, 4), ["large", "small"]);
    }

    #[test]
    fn a_subject_that_changes_forever_does_not_fill_memory() {
        let mut queue = NewsQueue::default();
        for _ in 0..10_000 {
            queue.push(1, "x", 10);
        }
        assert!(queue.by_sends[0].len() <= 2 + SLACK);
    }
}
