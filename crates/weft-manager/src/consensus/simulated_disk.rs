//! A file on a disk that loses power.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// A file that keeps what was synced; of what was written since, a crash keeps whatever the test says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Platter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    /// Operations until the power goes; none: it stays.
    power: Option<usize>,
    /// Syncs are said to be done and are not.
    lies: bool,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes(usize, Vec<u8>),
    Len(usize),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Len(len) => to.resize(*len, 0),
            Self::Bytes(at, bytes) => {
                to.resize(to.len().max(at + bytes.len()), 0);
                to[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

impl State {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, write: Write) -> io::Result<()> {
        self.spend()?;
        write.apply(&mut self.now);
        self.unsynced.push(write);
        Ok(())
    }
}

impl Platter {
    /// The power goes after this many operations.
    pub(crate) fn cut_power_after(&self, operations: usize) {
        self.lock().power = Some(operations);
    }

    /// From now on nothing is synced, whatever is said.
    #[cfg(feature = "simulation")]
    pub(crate) fn lie(&self) {
        self.lock().lies = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file after a crash that kept some of the writes that were not synced.
    pub(crate) fn after_crash(&self, mut kept: impl FnMut(usize) -> bool) -> Self {
        let state = self.lock();
        let mut bytes = state.synced.clone();
        for (at, write) in state.unsynced.iter().enumerate() {
            if kept(at) {
                write.apply(&mut bytes);
            }
        }
        Self(Arc::new(Mutex::new(State { now: bytes.clone(), synced: bytes, ..Default::default() })))
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl StorageBackend for Platter {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = place(offset)?;
        let state = self.lock();
        let bytes =
            state.now.get(at..at + out.len()).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = place(len)?;
        self.lock().write(Write::Len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.spend()?;
        if state.lies {
            return Ok(());
        }
        // Only what was written since: a copy of the whole for each sync would cost more than all else.
        let State { synced, unsynced, .. } = &mut *state;
        for write in unsynced.drain(..) {
            write.apply(synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = place(offset)?;
        self.lock().write(Write::Bytes(at, data.to_vec()))
    }
}
