//! Opening what is below a root that is not trusted, such as a container's.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How often a path is resolved anew. Who renames without end may keep anybody from opening a path.
const TRIES: usize = 100;

/// Opens a path as a process sees it whose root directory this is: links and `..` never lead out of it (openat2(2),
/// `RESOLVE_IN_ROOT`). The kernel gives up on a path with `..` in it, or in a link on its way, when anything on the
/// machine is renamed or mounted meanwhile; then it is resolved anew.
pub(crate) fn open_below(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// A path to what is open, also where its name has changed.
pub(crate) fn fd_path(fd: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_path_is_opened_while_somebody_else_renames() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        let root = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (done, one, two) = (AtomicBool::new(false), dir.path().join("one"), dir.path().join("two"));
        std::fs::create_dir(&one).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &two).unwrap();
                    std::fs::rename(&two, &one).unwrap();
                }
            });
            let opened: Vec<_> = (0..1000)
                .map(|_| open_below(&root, Path::new("a/b/../../../a/b"), OFlags::PATH).err())
                .collect();
            done.store(true, Ordering::Relaxed);
            assert_eq!(opened, [None; 1000]);
        });
    }
}
