//! A mount namespace of one thread that holds nothing of the host's.
//!
//! A new namespace has a copy of every mount there is. Such a copy would keep another container's root mounted while that
//! one is started anew, and a disk busy that is to be unmounted. So the copies follow the host's, and are detached where
//! nothing of them is needed.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

/// From here on this thread's mounts are nobody else's. What is unmounted elsewhere goes here, too.
pub(super) fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

/// Detaches what is neither below `kept` nor on the way to it. `/proc` stays, for paths lead through it.
pub(super) fn detach_others(kept: &Path) -> io::Result<()> {
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    // The last one first: it lies on those before it.
    for mount in others(&mounts, kept).into_iter().rev() {
        // It may have gone with one that it was below of.
        let _ = unmount(&mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    Ok(())
}

fn others(mountinfo: &[u8], kept: &Path) -> Vec<PathBuf> {
    let points = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4));
    let points = points.map(|point| PathBuf::from(OsString::from_vec(unescape(point))));
    points
        .filter(|point| {
            !kept.starts_with(point) && !point.starts_with(kept) && !Path::new("/proc").starts_with(point)
        })
        .collect()
}

/// Space, tabulator, line feed and backslash are written as three octal digits (proc_pid_mountinfo(5)).
fn unescape(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_view_needs_stays() {
        let text = b"1 0 8:1 / / rw - ext4 a rw\n\
            2 1 0:5 / /proc rw - proc proc rw\n\
            3 2 0:6 / /proc/sys/fs/binfmt_misc rw - autofs b rw\n\
            4 1 8:2 / /var/lib/data\\040root rw - ext4 c rw\n\
            5 4 0:7 / /var/lib/data\\040root/one/merged rw - overlay overlay rw\n\
            6 5 8:3 / /var/lib/data\\040root/one/merged/volume rw - ext4 d rw\n\
            7 4 0:8 / /var/lib/data\\040root/two/merged rw - overlay overlay rw\n\
            8 1 8:4 / /mnt rw - ext4 e rw\n";
        let gone = others(text, Path::new("/var/lib/data root/one/merged"));
        let wanted = ["/proc/sys/fs/binfmt_misc", "/var/lib/data root/two/merged", "/mnt"];
        assert_eq!(gone, wanted.map(PathBuf::from));
    }

    proptest! {
        #[test]
        fn no_line_does_harm(bytes in any::<Vec<u8>>()) {
            let kept = Path::new("/a");
            prop_assert!(others(&bytes, kept).iter().all(|point| !point.starts_with(kept)));
        }
    }
}
