//! Loading the programs, and their places at the root of the control groups.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError};
use aya::{Ebpf, EbpfLoader};
use weft_types::error_chain;

use super::maps::{MAPS, Maps};
use super::{ConnectError, sys};
use crate::bpf::attach::Outcome;
use crate::bpf::folder::remove;
use crate::bpf::programs::refusal;
use crate::bpf::{FastPathError, memory, object};

pub(in crate::bpf) static CONNECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/connect.bpf.o"));

/// The programs as their functions are called, and where they are attached (`enum bpf_attach_type`).
const PROGRAMS: [(&str, u32); 4] =
    [("connect4", 10), ("connect6", 11), ("getpeername4", 29), ("getpeername6", 30)];

/// The programs of this build in the kernel. Attached they stay there without this value.
pub(super) struct Programs {
    loaded: Ebpf,
    /// Whether they can refuse a connection by themselves.
    pub(super) can_refuse: bool,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs").field("can_refuse", &self.can_refuse).finish_non_exhaustive()
    }
}

impl Programs {
    /// Loads them. Their maps are those that are pinned in the folder; missing ones are made and pinned there.
    pub(super) fn load(maps: Option<&Path>) -> Result<Self, ConnectError> {
        let load = |can_refuse| load(maps, can_refuse).map(|loaded| Self { loaded, can_refuse });
        // Kernels before 6.1 know no other refusal than EPERM: there it is left to the rules below.
        Ok(load(true).or_else(|_| load(false))?)
    }

    /// Brings each to its place; pins are in `folder`.
    pub(super) fn settle(&mut self, root: &File, folder: &Path) -> Vec<(&'static str, Outcome)> {
        let mut each = |name: &'static str, kind| {
            let program = program(&mut self.loaded, name).map_err(object(format!("take {name}")));
            let settled = program.and_then(|program| settle(program, name, kind, root, &folder.join(name)));
            (name, settled.unwrap_or_else(|error| Outcome::Failed(error_chain(&error))))
        };
        PROGRAMS.map(|(name, kind)| each(name, kind)).into()
    }

    /// Their maps, where none are pinned; can be taken once.
    pub(super) fn maps(&mut self) -> Result<Maps, ConnectError> {
        Ok(Maps::of(&mut self.loaded).map_err(object("take the maps of services"))?)
    }

    /// Attaches them until this value goes.
    pub(super) fn attach(&mut self, root: &File) -> Result<(), ConnectError> {
        for (name, _) in PROGRAMS {
            program(&mut self.loaded, name)
                .and_then(|program| program.attach(root, CgroupAttachMode::Single))
                .map_err(object(format!("attach {name} to the control groups")))?;
        }
        Ok(())
    }
}

fn load(maps: Option<&Path>, can_refuse: bool) -> Result<Ebpf, FastPathError> {
    let failed = |reason| FastPathError::Load { programs: "of services", reason };
    let mut loader = EbpfLoader::new();
    let can_refuse = u32::from(can_refuse);
    loader.override_global("can_refuse", &can_refuse, true);
    if let Some(folder) = maps {
        for name in MAPS {
            loader.map_pin_path(name, folder.join(name));
        }
    }
    let loaded = loader.load(CONNECT);
    drop(loader);
    memory::give_back();
    let mut loaded = loaded.map_err(|error| failed(error_chain(&error)))?;
    for (name, _) in PROGRAMS {
        program(&mut loaded, name)
            .and_then(|program| program.load())
            .map_err(|error| failed(refusal(name, &error)))?;
    }
    Ok(loaded)
}

fn program<'a>(loaded: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSockAddr, ProgramError> {
    // Objects are made together with this list; a stale one is as a program that was not loaded.
    loaded.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// The link is pinned, and so is the program attached, until the pin is removed.
fn settle(
    program: &mut CgroupSockAddr,
    name: &str,
    kind: u32,
    root: &File,
    pin: &Path,
) -> Result<Outcome, FastPathError> {
    let id = program.info().map_err(object(format!("ask for {name}")))?.id();
    let is_attached = || -> Result<bool, FastPathError> {
        let attached =
            sys::attached(root, kind).map_err(object("list the programs of the control groups"))?;
        Ok(attached.contains(&id))
    };
    let pinned = pin.exists();
    if pinned && is_attached()? {
        return Ok(Outcome::Stood);
    }
    let fd = program.fd().map_err(object("a program's descriptor"))?.as_fd();
    if pinned && sys::replace(pin, fd).is_ok() && is_attached()? {
        return Ok(Outcome::Replaced);
    }
    // A link that somebody cut.
    remove(pin)?;
    // The kernel takes links beside others' programs, whatever the mode; other words than none it refuses.
    let link = program
        .attach(root, CgroupAttachMode::Single)
        .and_then(|id| program.take_link(id))
        .and_then(|link| FdLink::try_from(link).map_err(as_program_error))
        .map_err(object(format!("attach {name} to the control groups")))?;
    link.pin(pin).map_err(object(format!("pin the attachment of {name}")))?;
    Ok(Outcome::Attached)
}

fn as_program_error(error: LinkError) -> ProgramError {
    match error {
        LinkError::SyscallError(error) => ProgramError::SyscallError(error),
        LinkError::InvalidLink | LinkError::UnknownLinkType(_) => ProgramError::NotAttached,
    }
}
