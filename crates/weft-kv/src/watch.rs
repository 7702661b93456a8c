//! Following a folder of a store through all that befalls the store.
//!
//! Invariant: whoever carries out all changes in turn has what the store held when it last answered. While it does not
//! answer there are none: the last state stands.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::known::Known;
use crate::store::{News, Position};
use crate::{Change, Store};

const FIRST_WAIT: Duration = Duration::from_millis(500);
/// A store that is back is noticed within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The folder as it was told so far.
pub struct Watch {
    store: Store,
    folder: String,
    position: Position,
    known: Known,
    backoff: Backoff,
    /// Whether the whole state was told.
    begun: bool,
    /// Whether the store's silence was told of.
    told_away: bool,
}

impl Watch {
    pub(crate) fn new(store: Store, folder: &str) -> Self {
        Self {
            store,
            folder: folder.to_owned(),
            position: Position::default(),
            known: Known::default(),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            begun: false,
            told_away: false,
        }
    }

    /// Waits for the next changes; the first ones are everything that is there, possibly nothing. May be dropped while
    /// it waits without loss.
    pub async fn next(&mut self) -> Vec<Change> {
        loop {
            let changes = match self.store.news(&self.folder, &mut self.position).await {
                Ok(News::Whole(entries)) => self.known.replace(entries),
                Ok(News::Happened(changes)) => self.known.follow(changes),
                Err(error) => {
                    self.position = Position::Begin;
                    self.tell(&error);
                    tokio::time::sleep(self.backoff.failed(rand::random())).await;
                    continue;
                }
            };
            self.answered();
            if !self.begun || !changes.is_empty() {
                self.begun = true;
                return changes;
            }
        }
    }

    /// Once for each time that the store is away. No warning: what it means for them, users hear of who follows.
    fn tell(&mut self, error: &crate::StoreError) {
        if !self.told_away {
            tracing::info!(folder = self.folder, %error, "the key-value store is not followed: what was last known stands");
        }
        self.told_away = true;
    }

    fn answered(&mut self) {
        self.backoff.reset();
        if std::mem::take(&mut self.told_away) {
            tracing::info!(folder = self.folder, "the key-value store is followed again");
        }
    }
}
