//! News that is sent several times, to a few receivers each time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::FixedHasher;

/// How many pieces that do not fit are passed over before a packet counts as full.
const MISSES: usize = 8;
/// Replaced pieces are thrown out once they outnumber the others by this much.
const SLACK: usize = 64;

struct Piece<K, T> {
    key: K,
    news: T,
    len: usize,
}

/// News by subject: a newer piece about the same subject replaces the older. What was sent least goes first.
///
/// Invariant: at most one piece per subject, so the number of subjects bounds the queue.
pub(super) struct NewsQueue<K, T> {
    /// Pieces by slot; an empty slot is still in a line and becomes free when its turn comes.
    slots: Vec<Option<Piece<K, T>>>,
    free: Vec<u32>,
    /// Lines of slots; index: how often they were sent.
    by_sends: Vec<VecDeque<u32>>,
    by_key: HashMap<K, u32, FixedHasher>,
}

impl<K, T> Default for NewsQueue<K, T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_sends: vec![VecDeque::new()],
            by_key: HashMap::default(),
        }
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
    /// Number of pieces.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds news of `len` bytes about `key`.
    pub(super) fn push(&mut self, key: K, news: T, len: usize) {
        let piece = Some(Piece { key: key.clone(), news, len });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = piece;
                slot
            }
            None => {
                self.slots.push(piece);
                self.slots.len() as u32 - 1
            }
        };
        if let Some(replaced) = self.by_key.insert(key, slot) {
            self.slots[replaced as usize] = None;
        }
        self.by_sends[0].push_back(slot);
        if self.slots.len() > 2 * self.by_key.len() + SLACK {
            self.compact();
        }
    }

    /// Hands out what fits into `room`, `overhead` bytes counted for each. A piece ends after `limit` sends.
    pub(super) fn take(&mut self, room: &mut Room, overhead: usize, limit: usize, mut give: impl FnMut(T)) {
        let mut misses = 0;
        // Put back at the end: in the next line they would be met again.
        let mut sent: Vec<(usize, u32)> = Vec::new();
        for (sends, line) in self.by_sends.iter_mut().enumerate() {
            let mut at = 0;
            while misses < MISSES && room.messages > 0 {
                let Some(&slot) = line.get(at) else { break };
                match &self.slots[slot as usize] {
                    None => self.free.push(slot),
                    Some(piece) if piece.len + overhead > room.bytes => {
                        at += 1;
                        misses += 1;
                        continue;
                    }
                    Some(piece) => {
                        room.bytes -= piece.len + overhead;
                        room.messages -= 1;
                        give(piece.news.clone());
                        sent.push((sends + 1, slot));
                    }
                }
                line.remove(at);
            }
        }
        for (sends, slot) in sent {
            self.put_back(sends, limit, slot);
        }
    }

    fn put_back(&mut self, sends: usize, limit: usize, slot: u32) {
        if sends >= limit {
            if let Some(piece) = self.slots[slot as usize].take() {
                self.by_key.remove(&piece.key);
            }
            self.free.push(slot);
            return;
        }
        while self.by_sends.len() <= sends {
            self.by_sends.push(VecDeque::new());
        }
        self.by_sends[sends].push_back(slot);
    }

    /// Throws replaced pieces out of their lines.
    fn compact(&mut self) {
        let mut next = Self { by_sends: Vec::with_capacity(self.by_sends.len()), ..Self::default() };
        for line in &self.by_sends {
            let mut moved = VecDeque::new();
            for slot in line {
                if let Some(piece) = self.slots[*slot as usize].take() {
                    let slot = next.slots.len() as u32;
                    next.by_key.insert(piece.key.clone(), slot);
                    next.slots.push(Some(piece));
                    moved.push_back(slot);
                }
            }
            next.by_sends.push(moved);
        }
        *self = next;
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
        assert_eq!(queue.free.len(), queue.slots.len());
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
        assert!(queue.slots.len() <= 3 + SLACK, "{}", queue.slots.len());
        assert_eq!(take(&mut queue, 100, 4), ["x"]);
    }
}
