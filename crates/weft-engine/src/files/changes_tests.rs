//! Tests of comparing: against trees made by hand, and against a real overlay.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rustix::fs::{XattrFlags, mknodat};

use super::*;
use crate::container::rootfs::RootFs;

fn write(path: PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn shown(changes: Vec<Change>) -> Vec<String> {
    let letter = |kind: ChangeKind| ["C", "A", "D"][kind as usize];
    changes.into_iter().map(|change| format!("{} {}", letter(change.kind), change.path)).collect()
}

#[test]
fn added_changed_and_deleted_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (low, high, upper) = (dir.path().join("low"), dir.path().join("high"), dir.path().join("upper"));
    write(low.join("etc/passwd"), "old");
    write(low.join("etc/gone"), "");
    write(low.join("dir/hidden"), "");
    write(low.join("dir/both"), "");
    write(low.join("removed-before"), "");
    write(high.join("var/log"), "");
    // The clock of files is coarse: what is made at the same instant looks unchanged.
    for dir in [low.join("etc"), low.join("dir"), high.join("var")] {
        std::fs::File::open(dir).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let whiteout = |path: PathBuf| mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    whiteout(high.join("removed-before"));
    write(upper.join("etc/passwd"), "new");
    write(upper.join("var/new"), "");
    write(upper.join("removed-before"), "again");
    whiteout(upper.join("etc/gone"));
    whiteout(upper.join("never-there"));
    write(upper.join("dir/both"), "");
    write(upper.join("dir/own"), "");
    rustix::fs::setxattr(upper.join("dir"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    let found = shown(changes(&upper, &[high, low]).unwrap());
    let wanted = [
        "C /dir",
        "C /dir/both",
        "D /dir/hidden",
        "A /dir/own",
        "C /etc",
        "D /etc/gone",
        "C /etc/passwd",
        "A /removed-before",
        "C /var",
        "A /var/new",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn mount_points_are_no_change_as_long_as_they_are_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
    write(lower.join("etc/passwd"), "");
    for path in ["etc/hosts", "etc/resolv.conf", "dev/console"] {
        write(upper.join(path), "");
    }
    std::fs::File::open(lower.join("etc")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::create_dir(upper.join("proc")).unwrap();
    assert_eq!(shown(changes(&upper, std::slice::from_ref(&lower)).unwrap()), Vec::<String>::new());
    write(upper.join("etc/own"), "");
    write(upper.join("etc/hosts"), "written below the mount");
    assert_eq!(shown(changes(&upper, &[lower]).unwrap()), ["C /etc", "A /etc/hosts", "A /etc/own"]);
}

/// What somebody does to a tree.
#[derive(Debug, Clone)]
enum Act {
    Write(String),
    Remove(String),
    Replace(String),
}

fn act() -> impl Strategy<Value = Act> {
    let path = "[ab](/[ab]){0,2}";
    prop_oneof![path.prop_map(Act::Write), path.prop_map(Act::Remove), path.prop_map(Act::Replace)]
}

/// Does it, as far as the tree lets it.
fn act_on(root: &Path, act: &Act) {
    match act {
        Act::Write(path) => {
            let path = root.join(path);
            let _ = std::fs::create_dir_all(path.parent().unwrap());
            let _ = std::fs::write(path, "written");
        }
        Act::Remove(path) => remove(&root.join(path)),
        Act::Replace(path) => {
            remove(&root.join(path));
            let _ = std::fs::create_dir_all(root.join(path));
        }
    }
}

fn remove(path: &Path) {
    if std::fs::remove_dir_all(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

/// All paths and whether they are directories.
fn tree(root: &Path) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    let mut rest = vec![root.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let is_directory = entry.file_type().unwrap().is_dir();
            let path = Path::new("/").join(entry.path().strip_prefix(root).unwrap());
            found.insert(path.display().to_string(), is_directory);
            if is_directory {
                rest.push(entry.path());
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is done in an overlay of two layers: what is new is added, what is gone is deleted, once, with the
    /// topmost of what is gone.
    #[test]
    fn a_real_overlay_is_understood(
        low in proptest::collection::vec(act(), 0..6),
        high in proptest::collection::vec(act(), 0..6),
        own in proptest::collection::vec(act(), 0..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let lower = [dir.path().join("high/rootfs/diff"), dir.path().join("low")];
        std::fs::create_dir(&lower[1]).unwrap();
        low.iter().for_each(|act| act_on(&lower[1], act));
        // The layer in the middle is made as containers make theirs.
        let middle = RootFs::new(&dir.path().join("high"));
        middle.create(&lower[1..]).unwrap();
        middle.mount(&lower[1..]).unwrap();
        high.iter().for_each(|act| act_on(&middle.merged(), act));
        middle.unmount().unwrap();
        let rootfs = RootFs::new(&dir.path().join("own"));
        rootfs.create(&lower).unwrap();
        rootfs.mount(&lower).unwrap();
        let before = tree(&rootfs.merged());
        own.iter().for_each(|act| act_on(&rootfs.merged(), act));
        let after = tree(&rootfs.merged());
        rootfs.unmount().unwrap();
        let found = changes(&rootfs.upper(), &lower).unwrap();
        let of = |kind| found.iter().filter(|c| c.kind == kind).map(|c| c.path.clone()).collect::<Vec<_>>();
        let added: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).cloned().collect();
        let mut told = of(ChangeKind::Added);
        told.sort_unstable();
        prop_assert_eq!(told, added);
        let parent = |path: &str| Path::new(path).parent().unwrap().display().to_string();
        // Of a directory that is gone or no directory any more, what was in it is not told.
        let gone = before.keys().filter(|path| {
            let still = parent(path) == "/" || after.get(&parent(path)) == Some(&true);
            !after.contains_key(*path) && still
        });
        let mut told = of(ChangeKind::Deleted);
        told.sort_unstable();
        prop_assert_eq!(told, gone.cloned().collect::<Vec<_>>());
        for path in of(ChangeKind::Modified) {
            prop_assert!(before.contains_key(&path) && after.contains_key(&path), "{}", path);
        }
    }
}
