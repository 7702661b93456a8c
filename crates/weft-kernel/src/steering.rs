//! Receive packet steering: which processors take packets over from the one that an interface's receive queue interrupts
//! (kernel doc networking/scaling.rst, RPS).

use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string, write};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use weft_plan::LinkName;

use crate::{Netns, NetnsError};

/// The processors of each receive queue (`rx-0`), as the kernel words sets of them: hexadecimal, 32 to a group, groups
/// between commas. All zeros: none, the queue's own processor goes on.
pub type Steering = BTreeMap<String, String>;

const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Queues could not be read or changed. Those before the one that failed are as asked.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The file system of devices.
    #[error("processors of the receive queues of {link}")]
    Queues {
        /// The interface.
        link: LinkName,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl Netns {
    /// Who takes packets over from the queues of an interface. Blocks.
    pub fn steering(&self, link: &LinkName) -> Result<Steering, SteeringError> {
        self.in_queues(link, |queues| {
            let mut steering = Steering::new();
            for entry in read_dir(queues)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.starts_with("rx-") {
                    let processors = read_to_string(file(queues, &name))?.trim().to_owned();
                    steering.insert(name, processors);
                }
            }
            Ok(steering)
        })
    }

    /// Has others take packets over. Queues that are not there (any more) are passed over. Blocks.
    pub fn set_steering(&self, link: &LinkName, steering: &Steering) -> Result<(), SteeringError> {
        self.in_queues(link, |queues| {
            for (name, processors) in steering {
                match write(file(queues, name), processors) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    written => written?,
                }
            }
            Ok(())
        })
    }

    /// With the folder of an interface's queues. What is mounted at `/sys` shows the namespace that it was mounted in.
    fn in_queues<T: Send>(
        &self,
        link: &LinkName,
        work: impl FnOnce(&Path) -> io::Result<T> + Send,
    ) -> Result<T, SteeringError> {
        let worked = self.run_in(|| {
            let devices = devices()?;
            work(&PathBuf::from(format!("/proc/self/fd/{}/class/net/{link}/queues", devices.as_raw_fd())))
        })?;
        worked.map_err(|source| SteeringError::Queues { link: link.clone(), source })
    }
}

fn file(queues: &Path, queue: &str) -> PathBuf {
    queues.join(queue).join("rps_cpus")
}

/// The file system of devices as the thread's namespace has it, mounted nowhere.
fn devices() -> io::Result<OwnedFd> {
    let context = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// All processors that run, as [`Steering`] words them.
pub fn all_processors() -> io::Result<String> {
    let text = read_to_string(ONLINE)?;
    set_of(text.trim()).ok_or_else(|| io::Error::other(format!("{ONLINE} says {text:?}")))
}

/// A set from a list like `0-3,6`.
fn set_of(list: &str) -> Option<String> {
    let mut groups: Vec<u32> = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        for processor in usize::from(first)..=usize::from(last) {
            groups.resize(groups.len().max(processor / 32 + 1), 0);
            groups[processor / 32] |= 1 << (processor % 32);
        }
    }
    let texts: Vec<String> = groups.iter().rev().map(|group| format!("{group:08x}")).collect();
    Some(texts.join(","))
}

/// Whether two words are of one set: the kernel writes as many zeros in front as it has room for processors.
pub fn same_processors(one: &str, other: &str) -> bool {
    let bare = |text: &str| text.replace(',', "").trim_start_matches('0').to_lowercase();
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_become_sets() {
        assert_eq!(set_of("0").unwrap(), "00000001");
        assert_eq!(set_of("0-3,6").unwrap(), "0000004f");
        assert_eq!(set_of("0-31,33").unwrap(), "00000002,ffffffff");
        assert_eq!(set_of("zero"), None);
        assert_eq!(set_of(""), None);
    }

    #[test]
    fn zeros_in_front_and_commas_are_nothing() {
        assert!(same_processors("3", "00000000,00000003"));
        assert!(same_processors("0", "00"));
        assert!(!same_processors("3", "00000003,00000000"));
    }

    proptest! {
        #[test]
        fn any_list_is_taken_or_refused(list in "[0-9,-]{0,12}|.{0,8}") {
            let _ = set_of(&list);
        }
    }
}
