//! The root of the control groups: what is attached there is for every process.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{ConnectError, unsupported};

/// The root of the second version's hierarchy, which hosts of the first one have beside theirs.
pub(super) fn root() -> Result<File, ConnectError> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| unsupported(format!("read /proc/self/mountinfo: {error}")))?;
    let path = mounts.lines().find_map(mounted_root).ok_or_else(|| {
        unsupported(
            "no control groups of version 2 are mounted (mount -t cgroup2 none /sys/fs/cgroup/unified)",
        )
    })?;
    File::open(&path).map_err(|error| unsupported(format!("open {}: {error}", path.display())))
}

/// Where the whole hierarchy is mounted by this line (proc(5)): `ID PARENT DEVICE ROOT PATH OPTIONS [TAG…] - TYPE …`. A
/// fresh mount of our own would change the options of all others.
fn mounted_root(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next()? != "cgroup2" {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    let (root, path) = (fields.next()?, fields.next()?);
    (root == "/").then(|| unescaped(path))
}

/// Blanks are written as three octal digits.
fn unescaped(path: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match tail.get(..3).and_then(octal).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_hierarchy_is_found_wherever_it_is_mounted() {
        let found = |line: &str| mounted_root(line).map(|path| path.display().to_string());
        let unified = "43 32 0:29 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(found(unified).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(found(r"1 2 0:9 / /a\040b rw - cgroup2 none rw").as_deref(), Some("/a b"));
        for other in [
            "43 32 0:29 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "43 32 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
            "43 32 0:29 / /x",
            "",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
        root().unwrap();
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "[ -~]{0,60}( - cgroup2 )?[ -~\\\\]{0,30}") {
            mounted_root(&line);
            unescaped(&line);
        }
    }
}
