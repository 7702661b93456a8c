//! Paths as users give them, and what they are.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use super::view::View;

/// Links that are followed in one path; the kernel's limit.
const LINKS_MAX: usize = 40;

/// What is at a path, as in the header `X-Docker-Container-Path-Stat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// In bytes.
    pub size: i64,
    /// Permissions and kind with the bits of Go's `fs.FileMode`.
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    /// Where a link leads with all links followed; empty for what is none.
    pub link_target: String,
}

/// A path of a request: without `..`, and whether it asks for a directory by its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) end: End,
}

/// How a path ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a name: a link is meant itself.
    Name,
    /// With `/`: a link to a directory means the directory.
    Slash,
    /// With `/.`: what is in the directory.
    Dot,
}

impl Wanted {
    /// Relative paths begin at the root. `..` takes away what is written before it, as Docker's client expects.
    pub(crate) fn parse(text: &str) -> Self {
        let mut path = PathBuf::from("/");
        for component in Path::new(text).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => {
                    path.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        let end = if text == "." || text.ends_with("/.") {
            End::Dot
        } else if text.ends_with('/') {
            End::Slash
        } else {
            End::Name
        };
        Self { path, end }
    }

    /// The name under which it stands in an archive.
    pub(crate) fn name(&self) -> String {
        match (self.end, self.path.file_name()) {
            (End::Dot, _) => ".".to_owned(),
            (_, Some(name)) => name.to_string_lossy().into_owned(),
            (_, None) => "/".to_owned(),
        }
    }

    /// What is there.
    pub(crate) fn stat(&self, view: &View) -> rustix::io::Result<PathStat> {
        let stat = if self.end == End::Name {
            view.stat(&self.path)?
        } else {
            rustix::fs::fstat(view.open_directory(&self.path)?)?
        };
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let target = is_link.then(|| follow(&self.path, |path| view.read_link(path)));
        Ok(PathStat {
            name: self.name(),
            size: stat.st_size,
            mode: go_mode(stat.st_mode),
            mtime: modified(&stat),
            link_target: target.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        })
    }
}

fn modified(stat: &Stat) -> String {
    let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    jiff::Timestamp::new(stat.st_mtime, nanos).unwrap_or_default().to_string()
}

/// Go's `fs.FileMode` of a kernel's mode.
fn go_mode(mode: u32) -> u32 {
    const DIRECTORY: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const CHARACTER_DEVICE: u32 = 1 << 21;
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => DIRECTORY,
        FileType::Symlink => SYMLINK,
        FileType::BlockDevice => DEVICE,
        FileType::CharacterDevice => DEVICE | CHARACTER_DEVICE,
        FileType::Fifo => PIPE,
        FileType::Socket => SOCKET,
        _ => 0,
    };
    let bit = |kernels: u32, gos: u32| if mode & kernels == 0 { 0 } else { gos };
    mode & 0o777 | kind | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20)
}

/// Follows all links of a path as far as there is something. For showing only: what it answers may be another path a
/// moment later.
fn follow(path: &Path, read_link: impl Fn(&Path) -> Option<PathBuf>) -> PathBuf {
    let mut rest: Vec<PathBuf> = parts(path);
    let mut resolved = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == Path::new("..") {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&part);
        match read_link(&next) {
            Some(target) if links < LINKS_MAX => {
                links += 1;
                if target.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            }
            _ => resolved = next,
        }
    }
    resolved
}

/// Names and `..` of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| PathBuf::from(part.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_as_docker_does() {
        let wanted = |text| {
            let wanted = Wanted::parse(text);
            (wanted.path.display().to_string(), wanted.end, wanted.name())
        };
        assert_eq!(wanted("/tmp/h"), ("/tmp/h".into(), End::Name, "h".into()));
        assert_eq!(wanted("tmp/h/"), ("/tmp/h".into(), End::Slash, "h".into()));
        assert_eq!(wanted("/tmp/h/."), ("/tmp/h".into(), End::Dot, ".".into()));
        assert_eq!(wanted("/a/../../b"), ("/b".into(), End::Name, "b".into()));
        assert_eq!(wanted("/"), ("/".into(), End::Slash, "/".into()));
        assert_eq!(wanted("."), ("/".into(), End::Dot, ".".into()));
    }

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_755), 493);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o020_620), 1 << 26 | 1 << 21 | 0o620);
        assert_eq!(go_mode(0o104_755), 1 << 23 | 0o755);
    }

    #[test]
    fn links_are_followed_as_far_as_they_lead() {
        let links: BTreeMap<&str, &str> =
            [("/a", "b/c"), ("/b", "/d"), ("/d/c", "../gone/x"), ("/loop", "loop")].into();
        let target = |path: &str| {
            follow(Path::new(path), |path| Some(links.get(path.to_str()?)?.into())).display().to_string()
        };
        assert_eq!(target("/a"), "/gone/x");
        assert_eq!(target("/plain/file"), "/plain/file");
        assert_eq!(target("/loop"), "/loop");
    }

    proptest! {
        #[test]
        fn what_is_wanted_stays_below_the_root(text in "[a./]{0,30}") {
            let wanted = Wanted::parse(&text);
            prop_assert!(wanted.path.is_absolute());
            prop_assert!(wanted.path.components().all(|part| part != Component::ParentDir));
        }

        #[test]
        fn links_lead_to_a_path_below_the_root(
            links in proptest::collection::btree_map("(/[ab]){1,3}", "/?(([ab]|\\.\\.)/?){0,4}", 0..6),
            path in "(/[ab]){1,4}",
        ) {
            let target = follow(Path::new(&path), |path| Some(links.get(path.to_str()?)?.into()));
            prop_assert!(target.is_absolute());
            prop_assert!(target.components().all(|part| part != Component::ParentDir));
        }
    }
}
