//! Tests of unpacking: contents, whiteouts, and archives that try to get out.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

/// Appends an entry with any name, also one that a well-behaved writer would refuse.
fn put(builder: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, data: &[u8]) {
    let mut header = Header::new_gnu();
    let raw = header.as_gnu_mut().unwrap();
    raw.name[..name.len()].copy_from_slice(name.as_bytes());
    raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(if kind == Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000);
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

fn archive(entries: &[(&str, EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, link, data) in entries {
        put(&mut builder, name, *kind, link, data);
    }
    builder.into_inner().unwrap()
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/file"), "untouched").unwrap();
        Self { dir }
    }
    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }
    fn unpack(&self, entries: &[(&str, EntryType, &str, &[u8])]) -> Result<u64, LayerError> {
        unpack(&archive(entries)[..], &self.root())
    }
    fn assert_outside_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.dir.path().join("outside")).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(std::fs::read_to_string(self.dir.path().join("outside/file")).unwrap(), "untouched");
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 2);
    }
}

#[test]
fn a_link_in_the_place_of_a_file_keeps_what_it_leads_to() {
    let place = Place::new();
    let outside = place.dir.path().join("outside/file");
    std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&outside, place.root().join("name")).unwrap();
    let root = rustix::fs::open(place.root(), OFlags::RDONLY, Mode::empty()).unwrap();
    assert!(change_mode(&root, "name".as_ref(), Mode::from_raw_mode(0o666)).is_err());
    assert_eq!(outside.metadata().unwrap().mode() & 0o777, 0o600);
}

use EntryType::{Directory, Link, Regular, Symlink};

#[test]
fn files_directories_and_links_are_made_with_their_attributes() {
    let place = Place::new();
    let size = place
        .unpack(&[
            ("./etc/", Directory, "", b""),
            ("etc/a", Regular, "", b"hello"),
            ("etc/b", Link, "etc/a", b""),
            ("usr/bin/c", Symlink, "/etc/a", b""),
            ("pipe", EntryType::Fifo, "", b""),
        ])
        .unwrap();
    // The file, and the text of the link.
    assert_eq!(size, 5 + 6);
    let root = place.root();
    assert_eq!(std::fs::read_to_string(root.join("etc/b")).unwrap(), "hello");
    assert_eq!(std::fs::metadata(root.join("etc/a")).unwrap().nlink(), 2);
    assert_eq!(std::fs::metadata(root.join("etc")).unwrap().mtime(), 1_000_000);
    assert_eq!(std::fs::metadata(root.join("etc/a")).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(std::fs::read_link(root.join("usr/bin/c")).unwrap(), Path::new("/etc/a"));
    assert!(std::fs::symlink_metadata(root.join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let place = Place::new();
    place
        .unpack(&[
            ("etc/.wh.gone", Regular, "", b""),
            ("opt/.wh..wh..opq", Regular, "", b""),
            ("opt/x", Regular, "", b"x"),
            (".wh..wh.plnk", Regular, "", b""),
        ])
        .unwrap();
    let gone = std::fs::symlink_metadata(place.root().join("etc/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0u8; 4];
    let length =
        rustix::fs::getxattr(place.root().join("opt"), "trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
    assert_eq!(std::fs::read_dir(place.root()).unwrap().count(), 2);
}

#[test]
fn names_with_dot_dot_are_refused() {
    for name in ["../outside/file", "a/../../outside/file", "/../outside/file"] {
        let place = Place::new();
        assert!(matches!(place.unpack(&[(name, Regular, "", b"evil")]), Err(LayerError::Path(_))), "{name}");
        place.assert_outside_untouched();
    }
}

#[test]
fn absolute_names_stay_inside() {
    let place = Place::new();
    place.unpack(&[("/etc/passwd-of-weft-test", Regular, "", b"x")]).unwrap();
    assert!(place.root().join("etc/passwd-of-weft-test").exists());
    assert!(!Path::new("/etc/passwd-of-weft-test").exists());
}

#[test]
fn links_as_parents_lead_nowhere_else() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    let absolute = outside.to_str().unwrap().to_owned();
    for target in [absolute.as_str(), "../outside", "../../../../../../../../tmp"] {
        let place_root = place.root();
        let _ = unpack(
            &archive(&[("door", Symlink, target, b""), ("door/file", Regular, "", b"evil")])[..],
            &place_root,
        );
        place.assert_outside_untouched();
        std::fs::remove_dir_all(&place_root).unwrap();
        std::fs::create_dir(&place_root).unwrap();
    }
}

#[test]
fn a_file_does_not_follow_a_link_of_its_own_name() {
    let place = Place::new();
    place.unpack(&[("file", Symlink, "../outside/file", b""), ("file", Regular, "", b"mine")]).unwrap();
    place.assert_outside_untouched();
    assert_eq!(std::fs::read_to_string(place.root().join("file")).unwrap(), "mine");
}

#[test]
fn hard_links_reach_only_inside() {
    let place = Place::new();
    assert!(matches!(place.unpack(&[("x", Link, "../outside/file", b"")]), Err(LayerError::Link(_))));
    // An absolute target is one inside the root.
    let absolute = place.dir.path().join("outside/file");
    assert!(place.unpack(&[("x", Link, absolute.to_str().unwrap(), b"")]).is_err());
    // Through a link that leads out.
    let through = [("door", Symlink, "../outside", b"" as &[u8]), ("x", Link, "door/file", b"")];
    assert!(place.unpack(&through).is_err());
    assert_eq!(std::fs::metadata(place.dir.path().join("outside/file")).unwrap().nlink(), 1);
    place.assert_outside_untouched();
}

#[test]
fn a_directory_gives_way_to_a_file_and_is_not_followed() {
    let place = Place::new();
    place.unpack(&[("d/door", Symlink, "../../outside", b""), ("d", Regular, "", b"file now")]).unwrap();
    place.assert_outside_untouched();
    assert!(place.root().join("d").is_file());
}

#[test]
fn attributes_of_the_overlay_cannot_be_smuggled_in() {
    let place = Place::new();
    let mut builder = Builder::new(Vec::new());
    builder
        .append_pax_extensions([
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc" as &[u8]),
            ("SCHILY.xattr.user.mine", b"yes"),
        ])
        .unwrap();
    put(&mut builder, "dir", Directory, "", b"");
    unpack(&builder.into_inner().unwrap()[..], &place.root()).unwrap();
    let mut value = [0u8; 16];
    assert!(rustix::fs::getxattr(place.root().join("dir"), "trusted.overlay.redirect", &mut value).is_err());
    assert_eq!(rustix::fs::getxattr(place.root().join("dir"), "user.mine", &mut value), Ok(3));
}

#[test]
fn garbage_and_cut_archives_are_refused_in_dockers_words() {
    let place = Place::new();
    let whole = archive(&[("file", Regular, "", &[7; 2000])]);
    let error = unpack(&whole[..1000], &place.root()).unwrap_err();
    assert_eq!(error.to_string(), "unexpected EOF");
    let error = unpack(&[b'x'; 1024][..], &place.root()).unwrap_err();
    assert_eq!(error.to_string(), "archive/tar: invalid tar header");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_archives_neither_panic_nor_get_out(
        flips in proptest::collection::vec((0usize..4096, any::<u8>()), 1..12),
    ) {
        let place = Place::new();
        let mut bytes = archive(&[
            ("a/", Directory, "", b""),
            ("a/door", Symlink, "../../outside", b""),
            ("a/door/file", Regular, "", b"evil"),
        ]);
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = unpack(&bytes[..], &place.root());
        place.assert_outside_untouched();
        let root = rustix::fs::open(place.root(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for keep_kinds in [true, false] {
            let copy = Unpacking::Copy { keep_kinds, owner: Some((7, 8)) };
            let _ = unpack_below(&bytes[..], &root, Path::new("/a/door"), copy);
            let _ = unpack_below(&bytes[..], &root, Path::new("/a"), copy);
        }
        place.assert_outside_untouched();
    }
}
