//! Consul and etcd, which the tests of key-value mode start: `consul` left Debian after bullseye, and installing
//! `etcd-server` would start one.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::pinned::{Package, path_with};

const PINNED: &[Package] = &[
    Package {
        suite: "bullseye",
        name: "consul:amd64",
        version: "1.8.7+dfsg1-2+b3",
        sha256: "e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9",
    },
    Package {
        suite: "bookworm",
        name: "etcd-server:amd64",
        version: "3.4.23-4+b4",
        sha256: "3a9445d4560ad6de1c375756b2a17d97713df44cbd20a658c871fe108af7ef5d",
    },
];

/// The PATH with both stores first.
pub(crate) fn path() -> Result<OsString> {
    let programs = PINNED.iter().map(|package| {
        let dir = package.unpacked().map_err(anyhow::Error::from);
        let dir = dir.with_context(|| format!("get {} {}", package.name, package.version))?;
        Ok(dir.join("usr/bin"))
    });
    path_with(programs.collect::<Result<Vec<_>>>()?)
}
