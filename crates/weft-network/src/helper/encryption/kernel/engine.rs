//! The thread that looks after the kernel's ESP, from outside.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::driver::Driver;
use crate::encryption::EncryptedPath;
use crate::helper::protocol::EncryptionWish;

/// What the thread tells.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) paths: Vec<EncryptedPath>,
    pub(super) dropped: Vec<(&'static str, u64)>,
}

/// The engine. Dropped, it leaves to the kernel what the kernel has: for the helper that comes next.
pub(in crate::helper::encryption) struct Engine {
    wishes: Option<Sender<EncryptionWish>>,
    last: Option<EncryptionWish>,
    told: Arc<Mutex<Told>>,
    /// Whether nothing is to be left.
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    pub(in crate::helper::encryption) fn start(wish: &EncryptionWish) -> io::Result<Self> {
        let driver = Driver::open(wish)?;
        let (wishes, wish) = channel();
        let (told, ends) = (Arc::<Mutex<Told>>::default(), Arc::<AtomicBool>::default());
        let (tell, end) = (told.clone(), ends.clone());
        let run = move || driver.run(&wish, &tell, &end);
        let thread = std::thread::Builder::new().name("esp-kernel".to_owned()).spawn(run)?;
        Ok(Self { wishes: Some(wishes), last: None, told, ends, thread: Some(thread) })
    }

    pub(in crate::helper::encryption) fn is_broken(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(in crate::helper::encryption) fn follow(&mut self, wish: &EncryptionWish) {
        if self.last.as_ref() == Some(wish) {
            return;
        }
        self.last = Some(wish.clone());
        if let Some(wishes) = &self.wishes {
            // A thread that ended is replaced with the next look.
            let _ = wishes.send(wish.clone());
        }
    }

    pub(in crate::helper::encryption) fn seen(&self) -> Vec<(&'static str, u64)> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).dropped.clone()
    }

    pub(in crate::helper::encryption) fn paths(&self) -> Vec<EncryptedPath> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).paths.clone()
    }

    /// Takes back all keys. What forbids cleartext stays: devices may still be there.
    pub(in crate::helper::encryption) fn end(self) {
        self.ends.store(true, Ordering::Release);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        tracing::info!("encryption ends");
    }
}
