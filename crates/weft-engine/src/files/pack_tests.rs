//! Tests of packing: what was packed is what comes out again.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{CWD, XattrFlags, mknodat};

use super::*;

fn open(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn pack(dir: &Path, kind: Kind) -> Vec<u8> {
    let mut packer = Packer::new(Vec::new(), kind);
    packer.content(&open(dir), b"").unwrap();
    packer.finish().unwrap()
}

/// Names, kinds and link targets of an archive.
fn listing(archive: &[u8]) -> Vec<(String, EntryType, String)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let link = entry.link_name_bytes().map(|link| text(&link)).unwrap_or_default();
        (text(&entry.path_bytes()), entry.header().entry_type(), link)
    });
    entries.collect()
}

#[test]
fn all_kinds_of_files_come_out_again() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| from.path().join(name);
    std::fs::create_dir(at("dir")).unwrap();
    std::fs::write(at("dir/file"), "content").unwrap();
    std::fs::set_permissions(at("dir/file"), PermissionsExt::from_mode(0o4751)).unwrap();
    std::fs::hard_link(at("dir/file"), at("dir/same")).unwrap();
    symlink("../elsewhere", at("link")).unwrap();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    std::fs::create_dir(at(&long).parent().unwrap()).unwrap();
    std::fs::write(at(&long), vec![7; 1000]).unwrap();
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    mknodat(
        CWD,
        at("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    // cap_net_raw, effective: what ping has.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let raw = openat(CWD, at(&long), OFlags::RDONLY, Mode::empty()).unwrap();
    rustix::fs::fsetxattr(&raw, CAPABILITY, &capability, XattrFlags::empty()).unwrap();

    let archive = pack(from.path(), Kind::Tree);
    crate::image::unpack_layer(archive.as_slice(), to.path()).unwrap();
    let out = |name: &str| to.path().join(name);
    assert_eq!(std::fs::read_to_string(out("dir/same")).unwrap(), "content");
    let (file, same) = (out("dir/file").metadata().unwrap(), out("dir/same").metadata().unwrap());
    assert_eq!(
        (file.mode(), file.ino(), file.mtime()),
        (0o104_751, same.ino(), at("dir/file").metadata().unwrap().mtime())
    );
    assert_eq!(std::fs::read_link(out("link")).unwrap(), Path::new("../elsewhere"));
    assert_eq!(std::fs::read(out(&long)).unwrap(), vec![7; 1000]);
    let mut buffer = [0; 64];
    let unpacked = openat(CWD, out(&long), OFlags::RDONLY, Mode::empty()).unwrap();
    let length = fgetxattr(&unpacked, CAPABILITY, buffer.as_mut_slice()).unwrap();
    assert_eq!(buffer[..length], capability);
    assert_eq!(out("null").metadata().unwrap().rdev(), rustix::fs::makedev(1, 3));
    assert!(out("pipe").symlink_metadata().is_ok() && out("socket").symlink_metadata().is_err());
}

#[test]
fn what_an_upper_directory_hides_becomes_whiteouts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("fresh")).unwrap();
    std::fs::write(at("fresh/new"), "").unwrap();
    let fresh = open(&at("fresh"));
    rustix::fs::fsetxattr(&fresh, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    mknodat(CWD, at("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let names: Vec<String> =
        listing(&pack(dir.path(), Kind::Layer)).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["fresh/", "fresh/.wh..wh..opq", "fresh/new", ".wh.gone"]);
    let plain: Vec<_> =
        listing(&pack(dir.path(), Kind::Tree)).into_iter().map(|(name, kind, _)| (name, kind)).collect();
    assert_eq!(plain[2], ("gone".to_owned(), EntryType::Char));
}

#[test]
fn the_root_and_single_files_have_the_names_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let mut packer = Packer::new(Vec::new(), Kind::Tree);
    packer.directory(&open(dir.path()), b"/").unwrap();
    packer.entry(&open(dir.path()), OsStr::new("link"), b"other").unwrap();
    packer.entry(&open(dir.path()), OsStr::new("missing"), b"missing").unwrap();
    let names = listing(&packer.finish().unwrap());
    let wanted = [
        ("/", "", EntryType::Directory),
        ("/file", "", EntryType::Regular),
        ("/link", "file", EntryType::Symlink),
        ("other", "file", EntryType::Symlink),
    ];
    assert_eq!(names, wanted.map(|(name, link, kind)| (name.to_owned(), kind, link.to_owned())));
}

#[test]
fn directories_that_are_too_deep_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
    std::fs::create_dir_all(dir.path().join(deep)).unwrap();
    let mut packer = Packer::new(Vec::new(), Kind::Tree);
    let error = packer.content(&open(dir.path()), b"").unwrap_err();
    assert!(error.to_string().starts_with("directories too deep: d/d/"), "{error}");
}

proptest! {
    #[test]
    fn any_names_and_contents_come_out_again(
        files in proptest::collection::btree_map("[a-zé ]{1,60}", proptest::collection::vec(any::<u8>(), 0..1500), 0..6),
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, content) in &files {
            std::fs::write(from.path().join(name), content).unwrap();
        }
        crate::image::unpack_layer(pack(from.path(), Kind::Tree).as_slice(), to.path()).unwrap();
        for (name, content) in &files {
            prop_assert_eq!(&std::fs::read(to.path().join(name)).unwrap(), content);
        }
        prop_assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), files.len());
    }
}
