//! The folder of pinned objects, a file system of its own: what is in it outlives the daemon.
//!
//! ```text
//! maps-LAYOUT/{stations,settings,counters}
//! programs-BUILD/{host,VNI}/PROGRAM
//! attached/PROGRAM-VNI-NAMESPACE-INTERFACE      the link, or where the kernel has none the program
//! ```
//!
//! Names have no dots: the kernel keeps those to itself.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use weft_types::Vni;

use super::FastPathError;
use super::layout::LAYOUT;
use super::programs::ProgramName;

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

/// Where a program is attached: to the ingress of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The namespace's number.
    pub(super) namespace: u64,
    /// The interface's number there.
    pub(super) interface: u32,
    pub(super) program: ProgramName,
    /// Of which segment; none for a program of the host.
    pub(super) vni: Option<Vni>,
}

impl Place {
    fn file_name(self) -> String {
        let vni = self.vni.map_or("host".to_owned(), |vni| vni.get().to_string());
        format!("{}-{vni}-{}-{}", self.program.name(), self.namespace, self.interface)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let program = ProgramName::parse(parts.next()?)?;
        let vni = match parts.next()? {
            "host" => None,
            number => Some(Vni::try_from(number.parse::<u32>().ok()?).ok()?),
        };
        let place = Self {
            namespace: parts.next()?.parse().ok()?,
            interface: parts.next()?.parse().ok()?,
            program,
            vni,
        };
        parts.next().is_none().then_some(place)
    }
}

fn failed(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> FastPathError {
    let path = path.to_owned();
    move |source| FastPathError::Folder { path, step, source }
}

impl Folder {
    /// Makes the folder and mounts a file system for BPF objects there, if there is none.
    pub(super) fn open(root: &Path) -> Result<Self, FastPathError> {
        mounted(root)?;
        let folder = Self { root: root.to_owned() };
        for part in [folder.maps(), folder.attached()] {
            make(&part)?;
        }
        Ok(folder)
    }

    /// Where maps of the present layout are.
    pub(super) fn maps(&self) -> PathBuf {
        self.root.join(format!("maps-{LAYOUT}"))
    }

    fn attached(&self) -> PathBuf {
        self.root.join("attached")
    }

    /// Where something that is attached is pinned.
    pub(super) fn pin(&self, place: Place) -> PathBuf {
        self.attached().join(place.file_name())
    }

    /// What is pinned as attached.
    pub(super) fn pins(&self) -> Result<Vec<Place>, FastPathError> {
        Ok(entries(&self.attached())?.iter().filter_map(|name| Place::parse(name)).collect())
    }

    /// Where the programs of a build and a namespace are; made.
    pub(super) fn programs(&self, build: &str, of: Option<Vni>) -> Result<PathBuf, FastPathError> {
        let builds = self.root.join(format!("programs-{build}"));
        make(&builds)?;
        let folder = builds.join(of.map_or("host".to_owned(), |vni| vni.get().to_string()));
        make(&folder)?;
        Ok(folder)
    }

    /// The segments that a build has programs for.
    pub(super) fn segments(&self, build: &str) -> Result<Vec<Vni>, FastPathError> {
        let names = entries(&self.root.join(format!("programs-{build}")))?;
        Ok(names.iter().filter_map(|name| name.parse::<u32>().ok()?.try_into().ok()).collect())
    }

    /// Whether there are maps of another layout.
    pub(super) fn has_other_maps(&self) -> Result<bool, FastPathError> {
        let own = format!("maps-{LAYOUT}");
        Ok(self.all()?.iter().any(|name| name.starts_with("maps-") && *name != own))
    }

    /// Our folders of any build. The kernel has files of its own there.
    fn all(&self) -> Result<Vec<String>, FastPathError> {
        let mut names = entries(&self.root)?;
        names.retain(|name| name == "attached" || name.starts_with("maps-") || name.starts_with("programs-"));
        Ok(names)
    }

    /// Removes what other builds and layouts left.
    pub(super) fn forget_others(&self, build: &str) -> Result<(), FastPathError> {
        let own = [format!("maps-{LAYOUT}"), format!("programs-{build}"), "attached".to_owned()];
        for name in self.all()?.into_iter().filter(|name| !own.contains(name)) {
            remove(&self.root.join(name))?;
        }
        Ok(())
    }

    /// Removes the mount with all that is pinned there, and the folder.
    pub(super) fn remove(self) -> Result<(), FastPathError> {
        for name in self.all()? {
            remove(&self.root.join(name))?;
        }
        unmounted(&self.root)
    }
}

/// Takes such a folder away, once nothing is pinned there.
pub(super) fn unmounted(root: &Path) -> Result<(), FastPathError> {
    umount2(root, MntFlags::MNT_DETACH).map_err(|e| failed(root, "unmount")(e.into()))?;
    std::fs::remove_dir(root).map_err(failed(root, "remove the folder"))
}

/// Makes a folder with a file system for BPF objects, if there is none.
pub(super) fn mounted(root: &Path) -> Result<(), FastPathError> {
    std::fs::create_dir_all(root).map_err(failed(root, "make the folder"))?;
    let kind = statfs(root).map_err(|e| failed(root, "inspect")(e.into()))?.filesystem_type();
    if kind != BPF_FS_MAGIC {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), root, Some("bpf"), flags, Some("mode=0700"))
            .map_err(|e| failed(root, "mount a file system for BPF objects at")(e.into()))?;
    }
    Ok(())
}

pub(super) fn make(folder: &Path) -> Result<(), FastPathError> {
    std::fs::create_dir_all(folder).map_err(failed(folder, "make the folder"))
}

/// Names in a folder; none where it is not there.
pub(super) fn entries(folder: &Path) -> Result<Vec<String>, FastPathError> {
    let read = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed(folder, "read"))?,
    };
    let names = read.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(failed(folder, "read"))
}

/// Removes a pin, or a folder of them. Nothing there is fine.
pub(super) fn remove(path: &Path) -> Result<(), FastPathError> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, "remove")(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_from_its_name() {
        for (program, vni) in
            [(ProgramName::Underlay, None), (ProgramName::Endpoint, Some(4097.try_into().unwrap()))]
        {
            let place = Place { namespace: 4026531840, interface: 12, program, vni };
            assert_eq!(Place::parse(&place.file_name()), Some(place), "{}", place.file_name());
        }
        for other in ["", "from_underlay", "from_underlay-host-1", "from_underlay-host-1-2-3", "x-host-1-2"] {
            assert_eq!(Place::parse(other), None, "{other}");
        }
    }
}
