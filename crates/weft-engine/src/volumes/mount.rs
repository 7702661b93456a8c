//! Mounting what a volume's options name.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};

/// A volume could not be mounted; nothing is mounted then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("error resolving passed in network volume address: lookup {name}: {source}")]
    Address { name: String, source: io::Error },
    /// Docker's words, with what was asked of the kernel.
    #[error("failed to mount local volume: mount {mount}: {}", words(*.source))]
    Mount { mount: String, source: Errno },
}

/// The kernel's reason as Go words it.
fn words(error: Errno) -> String {
    let text = io::Error::from(error).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalMount {
    pub(super) device: String,
    /// Kind of file system; without meaning for a bind.
    pub(super) kind: String,
    pub(super) target: PathBuf,
    pub(super) flags: MountFlags,
    pub(super) propagation: MountPropagationFlags,
    /// For the file system.
    pub(super) data: String,
}

impl LocalMount {
    /// Mounts it. May wait for a server for as long as the kernel does.
    pub(crate) fn mount(&self) -> Result<(), MountError> {
        self.try_mount().map_err(|source| MountError::Mount { mount: self.shown(), source })
    }

    fn try_mount(&self) -> Result<(), Errno> {
        let data = CString::new(self.data.as_str()).map_err(|_| Errno::INVAL)?;
        let data = (!self.data.is_empty()).then_some(data.as_c_str());
        mount(self.device.as_str(), &self.target, self.kind.as_str(), self.flags, data)?;
        self.finish().inspect_err(|_| {
            let _ = unmount_all(&self.target);
        })
    }

    /// What the kernel takes only in calls of their own.
    fn finish(&self) -> Result<(), Errno> {
        if !self.propagation.is_empty() {
            mount_change(&self.target, self.propagation)?;
        }
        if self.flags.contains(MountFlags::BIND | MountFlags::RDONLY) {
            mount_remount(&self.target, self.flags, "")?;
        }
        Ok(())
    }

    /// As Docker shows it; passwords stay out.
    fn shown(&self) -> String {
        let mut text = format!("{}:{}", self.device, self.target.display());
        if !self.flags.is_empty() {
            text.push_str(&format!(", flags: 0x{:x}", self.flags.bits()));
        }
        if !self.data.is_empty() {
            let words = self.data.split(',').map(|word| match word.strip_prefix("password=") {
                Some(_) => "password=********",
                None => word,
            });
            text.push_str(&format!(", data: {}", words.collect::<Vec<_>>().join(",")));
        }
        text
    }
}

/// Unmounts all that lies on a directory; that nothing does is no error. Who still has files open there keeps them.
pub(super) fn unmount_all(target: &Path) -> Result<(), Errno> {
    loop {
        match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_told_without_its_password() {
        let mount = LocalMount {
            device: "//server/share".to_owned(),
            kind: "cifs".to_owned(),
            target: "/v/_data".into(),
            flags: MountFlags::RDONLY,
            propagation: MountPropagationFlags::empty(),
            data: "username=a,password=secret,vers=3".to_owned(),
        };
        let error = MountError::Mount { mount: mount.shown(), source: Errno::NOENT };
        assert_eq!(
            error.to_string(),
            "failed to mount local volume: mount //server/share:/v/_data, flags: 0x1, data: username=a,password=********,vers=3: no such file or directory"
        );
    }
}
