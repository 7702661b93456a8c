//! Who is connected to the helper: the daemon, and who has not said yet as what it came.
//!
//! A daemon that looks who is there, a daemon that stays and a successor all begin alike: they connect and are greeted.
//! So nobody is taken for the daemon before it said something that only a daemon says; and who only looks disturbs nobody.

use std::collections::HashMap;
use std::io;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use crate::helper::protocol::{FromHelper, ToHelper, receive, send};

/// What a connection brings.
pub(super) enum Input {
    Message(u64, ToHelper),
    Closed(u64),
}

/// See the module.
pub(super) struct Callers {
    inputs: mpsc::UnboundedSender<Input>,
    /// How many there were: each one's number is greater than those of earlier ones.
    count: u64,
    /// They said nothing yet.
    guests: HashMap<u64, OwnedWriteHalf>,
    daemon: Option<(u64, OwnedWriteHalf)>,
}

impl Callers {
    /// What they say goes to `inputs`.
    pub(super) fn new(inputs: mpsc::UnboundedSender<Input>) -> Self {
        Self { inputs, count: 0, guests: HashMap::new(), daemon: None }
    }

    /// Greets who connected and listens to it, if it is the superuser's.
    pub(super) async fn admit(&mut self, stream: UnixStream, hello: &FromHelper) {
        if let Err(error) = check(&stream) {
            tracing::warn!(%error, "connection refused");
            return;
        }
        self.count += 1;
        let number = self.count;
        let (mut read, mut out) = stream.into_split();
        if let Err(error) = send(&mut out, hello).await {
            tracing::debug!(%error, "connection not greeted");
            return;
        }
        self.guests.insert(number, out);
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            while let Ok(message) = receive::<ToHelper>(&mut read).await {
                if inputs.send(Input::Message(number, message)).is_err() {
                    return;
                }
            }
            let _ = inputs.send(Input::Closed(number));
        });
    }

    pub(super) fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// Who says a daemon's words is the daemon from then on, unless a later one was there before. True: it is new.
    pub(super) fn note_daemon(&mut self, number: u64) -> bool {
        let Some(out) = self.guests.remove(&number) else { return false };
        let is_newest = self.daemon.as_ref().is_none_or(|(now, _)| *now < number);
        if is_newest {
            self.daemon = Some((number, out));
        }
        is_newest
    }

    /// A daemon that another one took the place of has no say any more.
    pub(super) fn is_daemon(&self, number: u64) -> bool {
        self.daemon.as_ref().is_some_and(|(now, _)| *now == number)
    }

    /// The way to a successor, which is not the daemon.
    pub(super) fn take(&mut self, number: u64) -> Option<OwnedWriteHalf> {
        let daemon = self.daemon.take_if(|(now, _)| *now == number).map(|(_, out)| out);
        self.guests.remove(&number).or(daemon)
    }

    /// True: with this connection the daemon went, or the last of a daemon to which nothing could be said any more.
    pub(super) fn close(&mut self, number: u64) -> bool {
        if self.guests.remove(&number).is_some() {
            return false;
        }
        self.daemon.take_if(|(now, _)| *now == number).is_some() || self.daemon.is_none()
    }

    /// Ends the connection to the daemon.
    pub(super) fn dismiss(&mut self) {
        self.daemon = None;
    }

    pub(super) async fn tell(&mut self, message: &FromHelper) {
        let Some((_, out)) = &mut self.daemon else { return };
        if let Err(error) = send(out, message).await {
            tracing::debug!(%error, "daemon not told");
            self.daemon = None;
        }
    }
}

fn check(stream: &UnixStream) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid} is another one")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that was admitted.
    async fn caller(callers: &mut Callers) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        callers.admit(far, &FromHelper::GossipName(String::new())).await;
        near
    }

    #[tokio::test]
    async fn who_only_looks_is_no_daemon_and_takes_nobody_s_place() {
        let (inputs, mut input) = mpsc::unbounded_channel();
        let mut callers = Callers::new(inputs);
        let (_daemon, mut successor, probe) =
            (caller(&mut callers).await, caller(&mut callers).await, caller(&mut callers).await);
        assert!(!callers.has_daemon());
        assert!(callers.note_daemon(1) && !callers.note_daemon(1) && callers.is_daemon(1));

        drop(probe);
        assert!(matches!(input.recv().await, Some(Input::Closed(3))));
        assert!(!callers.close(3) && callers.is_daemon(1));
        // The probe came later than the successor, whose turn it is nevertheless.
        send(&mut successor, &ToHelper::HandOver).await.unwrap();
        assert!(matches!(input.recv().await, Some(Input::Message(2, ToHelper::HandOver))));
        assert!(callers.take(2).is_some() && callers.is_daemon(1));
    }

    #[tokio::test]
    async fn the_newest_daemon_counts_and_one_that_hears_nothing_is_gone_when_it_closes() {
        let (inputs, _input) = mpsc::unbounded_channel();
        let mut callers = Callers::new(inputs);
        let (first, second) = (caller(&mut callers).await, caller(&mut callers).await);
        assert!(callers.note_daemon(2) && !callers.note_daemon(1));
        assert!(!callers.close(1) && callers.is_daemon(2));
        drop((first, second));
        while callers.has_daemon() {
            callers.tell(&FromHelper::GossipName(String::new())).await;
        }
        assert!(callers.close(2), "it is away, although that showed before");
    }
}
