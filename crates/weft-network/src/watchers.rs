//! Listening to the kernel in many namespaces, so that what others do there is looked at right away.
//!
//! A namespace in which something changes is told once, and again only after a rest if more changes: our own changes, and
//! the repairs that follow, cost one more look each, and someone who fights with us for an entry keeps nobody busy.

use std::collections::HashMap;
use std::hash::Hash;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use weft_kernel::{KernelError, Monitor, Netns};
use weft_plan::NamespaceRef;

/// What belongs together comes within this time.
const GATHER: Duration = Duration::from_millis(50);
/// Between two words of the same namespace.
const REST: Duration = Duration::from_millis(400);

/// See the module. Ends with this value.
#[derive(Debug)]
pub(crate) struct Watchers<P> {
    /// With the namespace's number: another one may come to be at the same path.
    running: HashMap<P, (u64, AbortHandle)>,
    sender: mpsc::Sender<P>,
    changed: mpsc::Receiver<P>,
}

impl<P: Clone + Eq + Hash + Send + 'static> Watchers<P> {
    pub(crate) fn new() -> Self {
        let (sender, changed) = mpsc::channel(16);
        Self { running: HashMap::new(), sender, changed }
    }

    /// Listens in these namespaces and no others. One that is not there yet is tried again with the next call.
    pub(crate) fn follow(&mut self, places: Vec<(P, NamespaceRef)>) {
        let wanted: HashMap<P, (u64, NamespaceRef)> = places
            .into_iter()
            .filter_map(|(place, namespace)| Some((place, (number(&namespace)?, namespace))))
            .collect();
        self.running.retain(|place, (number, task)| {
            let same = wanted.get(place).is_some_and(|(wanted, _)| wanted == number);
            if !same {
                task.abort();
            }
            same && !task.is_finished()
        });
        for (place, (number, namespace)) in wanted {
            if !self.running.contains_key(&place) {
                let task = tokio::spawn(watch(place.clone(), namespace, self.sender.clone()));
                self.running.insert(place, (number, task.abort_handle()));
            }
        }
    }

    /// The next namespace in which something changed. Giving up loses nothing.
    pub(crate) async fn changed(&mut self) -> P {
        match self.changed.recv().await {
            Some(place) => place,
            // There is always a sender: our own.
            None => std::future::pending().await,
        }
    }
}

impl<P> Drop for Watchers<P> {
    fn drop(&mut self) {
        self.running.values().for_each(|(_, task)| task.abort());
    }
}

/// Tells namespaces apart; none where there is no file.
fn number(namespace: &NamespaceRef) -> Option<u64> {
    std::fs::metadata(&namespace.0).ok().map(|file| file.ino())
}

async fn watch<P: Clone>(place: P, namespace: NamespaceRef, sender: mpsc::Sender<P>) {
    let open = {
        let namespace = namespace.clone();
        // The registration with the runtime belongs to it, not to the thread.
        move || -> Result<Monitor, KernelError> { Monitor::open(&Netns::resolve(&namespace)?) }
    };
    let mut monitor = match tokio::task::spawn_blocking(open).await {
        Ok(Ok(monitor)) => monitor,
        Ok(Err(error)) => {
            tracing::debug!(place = namespace.0, %error, "not listened to");
            return;
        }
        Err(_) => return,
    };
    // What happened before somebody listened.
    if sender.send(place.clone()).await.is_err() {
        return;
    }
    loop {
        let gathered = async {
            monitor.changed().await?;
            sleep(GATHER).await;
            monitor.forget()
        };
        if let Err(error) = gathered.await {
            tracing::warn!(place = namespace.0, %error, "no longer listened to");
            return;
        }
        if sender.send(place.clone()).await.is_err() {
            return;
        }
        sleep(REST).await;
    }
}
