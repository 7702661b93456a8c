//! How the paths of encrypted networks stand, as the helper tells and users see it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A Weft node says something every five seconds; this much later something is wrong.
const SILENCE: Duration = Duration::from_secs(20);

/// How keys towards a node come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncryptionScheme {
    /// Agreed on by both, fresh each time; ESP in UDP.
    Paired,
    /// From the managers' keys and both addresses, as Docker does; ESP alone.
    Docker,
}

/// What goes to and comes from one other node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedPath {
    /// Its data-path address.
    pub address: IpAddr,
    /// How keys come about.
    pub scheme: EncryptionScheme,
    /// Age of the keys that are sent with; none: there are none.
    pub key_age: Option<Duration>,
    /// Since the last authentic packet; none: there was none.
    pub heard_ago: Option<Duration>,
    /// Packets that had come before.
    pub replayed: u64,
    /// Packets that nobody with the key made like this.
    pub not_authentic: u64,
}

impl EncryptedPath {
    /// What is wrong with it. Nodes of Docker's may be silent for as long as they like.
    pub fn trouble(&self) -> Option<&'static str> {
        match (self.scheme, self.key_age, self.heard_ago) {
            (_, None, _) => Some("no keys are agreed on: the other node does not answer"),
            (EncryptionScheme::Paired, _, heard) if heard.is_none_or(|ago| ago > SILENCE) => {
                Some("nothing comes back")
            }
            _ => None,
        }
    }

    /// The same, so much later.
    pub(crate) fn later(&self, by: Duration) -> Self {
        let add = |age: Option<Duration>| age.map(|age| age + by);
        Self { key_age: add(self.key_age), heard_ago: add(self.heard_ago), ..self.clone() }
    }
}

/// Everything of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionReport {
    /// One for each other node on this node's encrypted networks.
    pub paths: Vec<EncryptedPath>,
    /// Packets that were dropped since the helper began, by reason.
    pub dropped: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_from_silence_that_is_normal() {
        let path = EncryptedPath {
            address: "192.0.2.1".parse().unwrap(),
            scheme: EncryptionScheme::Paired,
            key_age: Some(Duration::from_secs(60)),
            heard_ago: Some(Duration::from_secs(4)),
            replayed: 0,
            not_authentic: 0,
        };
        assert_eq!(path.trouble(), None);
        assert_eq!(path.later(SILENCE).trouble(), Some("nothing comes back"));
        let docker = EncryptedPath { scheme: EncryptionScheme::Docker, heard_ago: None, ..path.clone() };
        assert_eq!(docker.trouble(), None);
        let mute = EncryptedPath { key_age: None, ..docker };
        assert!(mute.trouble().is_some_and(|words| words.contains("does not answer")));
    }
}
