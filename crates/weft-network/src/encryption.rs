//! What encrypts networks here, and how their paths stand, as the helper tells and users see it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_plan::EncryptionEngine;

use crate::choice;

/// A Weft node says something every five seconds; this much later something is wrong.
const SILENCE: Duration = Duration::from_secs(20);

/// What the option says about encrypting networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EncryptionChoice {
    /// The kernel's ESP where there is one.
    #[default]
    Auto,
    /// The kernel's ESP, or nothing.
    Kernel,
    /// The helper process.
    Userspace,
}

impl EncryptionChoice {
    /// The engine; `kernel` and `tap` say whether this kernel has what the one and the other need. None: it lacks it.
    pub(crate) fn engine(self, kernel: impl FnOnce() -> bool, tap: bool) -> Option<EncryptionEngine> {
        let by_kernel = self != Self::Userspace && kernel();
        match (by_kernel, self) {
            (true, _) => Some(EncryptionEngine::Kernel),
            (false, Self::Kernel) => None,
            (false, _) => tap.then_some(EncryptionEngine::Userspace),
        }
    }
}

impl fmt::Display for EncryptionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        })
    }
}

impl FromStr for EncryptionChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        choice::parse(text, &[Self::Auto, Self::Kernel, Self::Userspace])
    }
}

/// How this node encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EncryptionSetting {
    /// UDP port of ESP.
    pub(crate) port: u16,
    pub(crate) engine: EncryptionEngine,
    /// Threads of the engine in user space, in each direction.
    pub(crate) queues: usize,
}

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
    fn the_option_says_what_may_be_written_and_what_is_taken() {
        use EncryptionEngine::{Kernel, Userspace};
        for (text, with_both, without_kernel, without_tap) in [
            ("auto", Some(Kernel), Some(Userspace), Some(Kernel)),
            ("kernel", Some(Kernel), None, Some(Kernel)),
            ("userspace", Some(Userspace), Some(Userspace), None),
        ] {
            let choice: EncryptionChoice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
            let taken = [(true, true), (false, true), (true, false)].map(|(k, tap)| choice.engine(|| k, tap));
            assert_eq!(taken, [with_both, without_kernel, without_tap], "{text}");
        }
        assert!("tap".parse::<EncryptionChoice>().is_err());
    }

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
