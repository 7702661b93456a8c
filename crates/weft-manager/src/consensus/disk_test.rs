//! A disk for tests of power loss.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// A disk that keeps what was synced; of what was written since, a crash keeps whatever the test says.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Platters>>);

#[derive(Debug, Default)]
struct Platters {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    /// Operations until the power goes; none: it stays.
    power: Option<usize>,
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

impl Platters {
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

impl Disk {
    /// The power goes after this many operations.
    pub(super) fn cut_power_after(&self, operations: usize) {
        self.lock().power = Some(operations);
    }

    fn lock(&self) -> MutexGuard<'_, Platters> {
        self.0.lock().unwrap()
    }

    /// The disk after a crash that kept some of the writes that were not synced.
    pub(super) fn after_crash(&self, kept: impl Fn(usize) -> bool) -> Self {
        let platters = self.lock();
        let mut bytes = platters.synced.clone();
        for (at, write) in platters.unsynced.iter().enumerate() {
            if kept(at) {
                write.apply(&mut bytes);
            }
        }
        Self(Arc::new(Mutex::new(Platters { now: bytes.clone(), synced: bytes, ..Default::default() })))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let range: Range<usize> = at..at + out.len();
        let platters = self.lock();
        let bytes = platters.now.get(range).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().write(Write::Len(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platters = self.lock();
        platters.spend()?;
        platters.synced = platters.now.clone();
        platters.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.lock().write(Write::Bytes(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}
