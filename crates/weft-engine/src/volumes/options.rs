//! Options of the driver `local` (`docker volume create --opt`): what to mount as the volume, in the words of mount(8).

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::mount::{LocalMount, MountError};

/// Options and the others that each needs beside it.
const KNOWN: [(&str, &[&str]); 4] =
    [("device", &["type"]), ("o", &["device", "type"]), ("size", &[]), ("type", &["device"])];

/// Whether these options make a volume, in Docker's words.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    if let Some(unknown) = options.keys().find(|key| KNOWN.iter().all(|(known, _)| known != key)) {
        return Err(format!("invalid option: {unknown:?}"));
    }
    if options.contains_key("size") {
        return Err("quota size requested but no quota support".to_owned());
    }
    let given = KNOWN.iter().filter(|(key, _)| options.contains_key(*key));
    let mut needed = given.flat_map(|(_, needs)| needs.iter());
    match needed.find(|key| !options.contains_key(**key)) {
        Some(missing) => Err(format!("missing required option: {missing:?}")),
        None => Ok(()),
    }
}

/// What to mount at `target`; `None` for a volume that is a plain directory. May ask for the address of a server.
pub(super) fn mount_of(
    options: &BTreeMap<String, String>,
    target: &Path,
) -> Result<Option<LocalMount>, MountError> {
    let option = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    if options.is_empty() {
        return Ok(None);
    }
    let words = with_address(option("type"), option("o"))?;
    let mut mount = LocalMount {
        device: option("device").to_owned(),
        kind: option("type").to_owned(),
        target: target.to_owned(),
        flags: MountFlags::empty(),
        propagation: MountPropagationFlags::empty(),
        data: String::new(),
    };
    let mut data = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        if !flag(&mut mount, word) {
            data.push(word);
        }
    }
    mount.data = data.join(",");
    Ok(Some(mount))
}

/// The kernel takes a server's address only, users give its name.
fn with_address(kind: &str, words: &str) -> Result<String, MountError> {
    let address = words.split(',').find_map(|word| word.strip_prefix("addr="));
    match address {
        Some(name) if matches!(kind, "nfs" | "cifs") && name.parse::<IpAddr>().is_err() => {
            let failed = |source| MountError::Address { name: name.to_owned(), source };
            let found = (name, 0).to_socket_addrs().map_err(failed)?.next();
            let found = found.ok_or_else(|| failed(std::io::Error::other("no such host")))?;
            Ok(words.replacen(&format!("addr={name}"), &format!("addr={}", found.ip()), 1))
        }
        _ => Ok(words.to_owned()),
    }
}

/// Takes a word that is a flag of mount(2); any other is for the file system.
fn flag(mount: &mut LocalMount, word: &str) -> bool {
    let propagation = |flags: MountPropagationFlags, deep: bool| {
        flags | if deep { MountPropagationFlags::REC } else { MountPropagationFlags::empty() }
    };
    let deep = word.starts_with('r');
    match word {
        "private" | "rprivate" => mount.propagation = propagation(MountPropagationFlags::PRIVATE, deep),
        "shared" | "rshared" => mount.propagation = propagation(MountPropagationFlags::SHARED, deep),
        "slave" | "rslave" => mount.propagation = propagation(MountPropagationFlags::DOWNSTREAM, deep),
        "unbindable" | "runbindable" => {
            mount.propagation = propagation(MountPropagationFlags::UNBINDABLE, deep);
        }
        "rbind" => mount.flags |= MountFlags::BIND | MountFlags::REC,
        _ => return plain_flag(&mut mount.flags, word),
    }
    true
}

fn plain_flag(flags: &mut MountFlags, word: &str) -> bool {
    let (flag, on) = match word {
        "defaults" => (MountFlags::empty(), true),
        "bind" => (MountFlags::BIND, true),
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
        "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
        _ => return false,
    };
    flags.set(flag, on);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_that_make_no_volume_are_refused_in_dockers_words() {
        for (given, words) in [
            (&[("foo", "1")][..], "invalid option: \"foo\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("size", "1m")], "quota size requested but no quota support"),
        ] {
            assert_eq!(check(&options(given)).unwrap_err(), words);
        }
        assert_eq!(check(&options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")])), Ok(()));
        assert_eq!(check(&options(&[])), Ok(()));
    }

    fn mount(kind: &str, words: &str) -> LocalMount {
        let given = options(&[("type", kind), ("device", "d"), ("o", words)]);
        mount_of(&given, Path::new("/t")).unwrap().unwrap()
    }

    #[test]
    fn words_are_flags_or_the_file_systems() {
        let tmpfs = mount("tmpfs", "size=100m,uid=1000,nosuid,ro,rw");
        assert_eq!((tmpfs.flags, tmpfs.data.as_str()), (MountFlags::NOSUID, "size=100m,uid=1000"));
        let bind = mount("none", "rbind,ro,rslave");
        assert_eq!(bind.flags, MountFlags::BIND | MountFlags::REC | MountFlags::RDONLY);
        assert_eq!(bind.propagation, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC);
        assert!(mount_of(&options(&[]), Path::new("/t")).unwrap().is_none());
    }

    #[test]
    fn the_kernel_gets_a_servers_address() {
        assert_eq!(mount("nfs", "addr=127.0.0.1,rw,vers=4").data, "addr=127.0.0.1,vers=4");
        assert_eq!(mount("nfs", "vers=4,addr=::1").data, "vers=4,addr=::1");
        let named = mount("nfs", "addr=localhost,nolock").data;
        assert!(named == "addr=127.0.0.1,nolock" || named == "addr=::1,nolock", "{named}");
        assert_eq!(mount("ext4", "addr=localhost").data, "addr=localhost");
    }

    proptest! {
        #[test]
        fn any_words_are_taken(words in "[a-z=,/0-9]{0,40}") {
            let given = options(&[("type", "tmpfs"), ("device", "d"), ("o", &words)]);
            prop_assert!(mount_of(&given, Path::new("/t")).unwrap().is_some());
        }
    }
}
