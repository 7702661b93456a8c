//! The image that labs, the demo and the end-to-end tests run: the machine's static busybox and little else.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{LabError, tool};

/// ELF program header type of a program that needs a dynamic linker (System V ABI, "Program Header").
const PT_INTERP: u32 = 3;

/// Builds the root file system as a tar: busybox with a link per applet, and an `/etc/passwd`.
pub fn busybox_rootfs() -> Result<Vec<u8>, LabError> {
    let program = static_busybox()?;
    let applets = tool::run(Command::new(&program).arg("--list"))?;
    let failed = |source| LabError::File { path: program.clone(), source };
    let binary = std::fs::read(&program).map_err(failed)?;
    archive(&binary, applets.lines().filter(|a| *a != "busybox")).map_err(failed)
}

/// The first busybox on the PATH that runs without libraries.
fn static_busybox() -> Result<PathBuf, LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("busybox"))
        .find(|file| is_static(file))
        .ok_or(LabError::NoBusybox)
}

fn is_static(file: &Path) -> bool {
    std::fs::read(file).is_ok_and(|elf| needs_linker(&elf) == Some(false))
}

/// Whether a 64-bit little-endian ELF file asks for a dynamic linker; none if it is something else.
fn needs_linker(elf: &[u8]) -> Option<bool> {
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?)));
    let headers = usize::try_from(u64::from_le_bytes(elf.get(0x20..0x28)?.try_into().ok()?)).ok()?;
    let (size, count) = (half(0x36)?, half(0x38)?);
    let types = (0..count).map(|n| elf.get(headers + n * size..)?.get(..4));
    Some(types.flatten().any(|t| t == PT_INTERP.to_le_bytes()))
}

fn archive<'a>(binary: &[u8], applets: impl Iterator<Item = &'a str>) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["bin", "etc", "proc", "sys", "dev", "root", "home"] {
        tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), format!("{dir}/"), &[][..])?;
    }
    tar.append_data(&mut header(tar::EntryType::Directory, 0o1777, 0), "tmp/", &[][..])?;
    tar.append_data(&mut header(tar::EntryType::Regular, 0o755, binary.len()), "bin/busybox", binary)?;
    for applet in applets {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox")?;
    }
    for (name, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ] {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o644, text.len()), name, text.as_bytes())?;
    }
    tar.into_inner()
}

/// A header of root's without a time, so that the same busybox gives the same image everywhere.
fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_the_applets_and_a_root_user() {
        let bytes = busybox_rootfs().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        for wanted in ["bin/busybox", "bin/sh", "bin/ping", "bin/httpd", "etc/passwd", "tmp/"] {
            assert!(names.iter().any(|n| n == wanted), "{wanted} missing");
        }
    }

    #[test]
    fn programs_with_libraries_are_told_from_static_ones() {
        let shell = std::fs::read("/bin/sh").unwrap();
        assert_eq!(needs_linker(&shell), Some(true));
        assert_eq!(needs_linker(b"#!/bin/sh"), None);
        assert_eq!(needs_linker(&shell[..0x30]), None);
    }
}
