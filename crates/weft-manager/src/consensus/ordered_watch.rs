//! tokio's watch channel, whose receivers wake in the order in which they began to wait.
//!
//! tokio wakes them in random order, which no seed decides. Only for simulations: they take it instead of tokio's.

use std::sync::Arc;

use futures_util::FutureExt as _;
use openraft::OptionalSend;
use openraft::OptionalSync;
use openraft::async_runtime::watch::{RecvError, SendError, Watch as WatchTrait, WatchReceiver, WatchSender};
use tokio::sync::{Notify, watch};

pub(crate) struct OrderedWatch;

pub(crate) struct Sender<T> {
    inner: watch::Sender<T>,
    /// Dropped after the channel's end: who waits then sees that it is closed.
    wake: Wake,
}

pub(crate) struct Receiver<T> {
    inner: watch::Receiver<T>,
    wake: Arc<Notify>,
}

struct Wake(Arc<Notify>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), wake: Wake(Arc::clone(&self.wake.0)) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), wake: Arc::clone(&self.wake) }
    }
}

impl WatchTrait for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = watch::channel(init);
        let wake = Arc::new(Notify::new());
        (Sender { inner: sender, wake: Wake(Arc::clone(&wake)) }, Receiver { inner: receiver, wake })
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<OrderedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        let sent = self.inner.send(value).map_err(|refused| SendError(refused.0));
        self.wake.0.notify_waiters();
        sent
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let modified = self.inner.send_if_modified(modify);
        self.wake.0.notify_waiters();
        modified
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver { inner: self.inner.subscribe(), wake: Arc::clone(&self.wake.0) }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<OrderedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            let wake = Arc::clone(&self.wake);
            let mut woken = std::pin::pin!(wake.notified());
            // Registered before looking: nothing in between is missed.
            woken.as_mut().enable();
            if let Some(seen) = self.inner.changed().now_or_never() {
                return seen.map_err(|_| RecvError(()));
            }
            woken.await;
        }
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.inner.borrow_and_update()
    }
}
