//! Virtual IPs at connect time: BPF programs at the root of the control groups (design: service engine by BPF).
//!
//! ```text
//! connect(socket, virtual IP) --connect4/6--> connect(socket, task)         getpeername(socket) --> virtual IP
//!           cookie of the socket's namespace --> reach;  reach, virtual IP --> slots --> task
//! ```
//!
//! A packet then has the task's address from the beginning: nothing is translated, nothing tracked. TCP only: a UDP
//! socket that is connected would stay with a task that is gone. The rules of nftables below (`weft-plan`, `balance`)
//! do the same for whatever programs do not: other protocols, raw sockets, kernels without them.
//!
//! Maps and attachments are pinned below a folder and go on without the daemon. The next one reads the maps, puts its own
//! programs into the attachments, each at once, and goes on from there. What changes and in which order is
//! `weft_plan::ConnectTables::changes`.
//!
//! A connection to a task that is gone is reset (`sockets.rs`): nothing on the way would say so.

mod cgroup;
mod cookie;
mod layout;
mod maps;
mod probe;
mod programs;
mod sockets;
mod sys;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use weft_plan::{ConnectTables, ConnectTarget, ConnectWish};
use weft_types::{Classified, ErrorKind, mapped};

use super::attach::Outcome;
use super::folder::{entries, make, mounted, remove, unmounted};
use super::{FastPathError, object};
use crate::{KernelError, Netns, NetnsError};
use layout::LAYOUT;
use maps::{MAPS, Maps};
#[cfg(test)]
pub(super) use programs::CONNECT;
use programs::Programs;

/// Services at connect time could not be read, changed or taken away. What had been done before stays, and the next
/// reconciliation goes on from there; the rules of nftables carry what programs do not.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// This kernel cannot do it.
    #[error("this kernel cannot translate virtual IPs when sockets connect: {reason}")]
    Unsupported {
        /// What is missing, in words.
        reason: String,
    },
    /// Programs, maps or their folder.
    #[error(transparent)]
    Bpf(#[from] FastPathError),
    /// A namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Connections could not be listed or reset.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Classified for ConnectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } => ErrorKind::System,
            Self::Bpf(error) => error.kind(),
            Self::Netns(error) => error.kind(),
            Self::Kernel(error) => error.kind(),
        }
    }
}

fn unsupported(reason: impl Into<String>) -> ConnectError {
    ConnectError::Unsupported { reason: reason.into() }
}

/// What a reconciliation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectReport {
    /// Steps that a new wish needed.
    pub changed: usize,
    /// What somebody else had changed or removed, in words.
    pub repaired: Vec<String>,
    /// What could not be done, in words: it is left to the rules.
    pub failed: Vec<String>,
}

/// Connections that programs saw, since their maps were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectCounters {
    /// Taken to a task.
    pub translated: u64,
    /// Refused, as no task takes flows.
    pub refused: u64,
    /// Left to the rules: the service changed that very moment, or memory was short.
    pub left: u64,
}

/// The programs and maps of a node.
#[derive(Debug)]
pub struct ConnectEngine {
    folder: PathBuf,
    maps: Maps,
    programs: Programs,
    /// What the maps say, as far as this daemon knows.
    tables: Option<ConnectTables>,
    /// The last number that a service's slots got; 0 before the first.
    last: u32,
    /// Whether programs of this build have been in their places.
    settled: bool,
}

impl ConnectEngine {
    /// Whether this kernel can; the reason in words where not. Tries it in a namespace that is thrown away.
    pub fn probe_blocking() -> Result<(), ConnectError> {
        probe::probe()
    }

    /// Loads programs for the maps that a former daemon pinned below `folder`, or for new ones. They come to their places
    /// with the first wish.
    pub fn open_blocking(folder: &Path) -> Result<Self, ConnectError> {
        prepare(folder)?;
        let (programs, maps) = open(folder)?;
        Ok(Self { folder: folder.to_owned(), maps, programs, tables: None, last: 0, settled: false })
    }

    /// Brings a wish about. With `look` also whatever somebody else has changed is found and repaired; without it only
    /// what the wish changes is done. Namespaces that are not there (yet) have no services.
    pub fn reconcile_blocking(
        &mut self,
        wish: &ConnectWish,
        look: bool,
    ) -> Result<ConnectReport, ConnectError> {
        let mut report = ConnectReport::default();
        let look = look || !self.settled;
        if look {
            self.keep_pins(&mut report)?;
        }
        let namespaces = wish.reaches.values().flat_map(|reach| &reach.namespaces);
        let target = ConnectTarget::new(wish, &cookie::cookies(namespaces)?);
        if target.left_out > 0 {
            report.failed.push(format!("{} namespaces and virtual IPs have no room", target.left_out));
        }
        self.fill(&target, look, &mut report)?;
        if look {
            self.settle(&mut report)?;
        }
        Ok(report)
    }

    /// What the programs counted.
    pub fn counters_blocking(&self) -> Result<ConnectCounters, ConnectError> {
        self.maps.counters()
    }

    /// Resets the connections of a namespace from these virtual IPs to these tasks, which are gone, as far as the kernel
    /// can; gives their number. Connections that asked for the task's own address are left alone.
    pub fn reset_blocking(
        &self,
        netns: &Netns,
        gone: impl IntoIterator<Item = (IpAddr, IpAddr)>,
    ) -> Result<usize, ConnectError> {
        let gone = gone.into_iter().map(|(vip, task)| (mapped(vip), mapped(task)));
        sockets::reset(netns, self.maps.peers(), &gone.collect())
    }

    /// Whether programs refuse what no task takes; else it is left to the rules.
    pub fn can_refuse(&self) -> bool {
        self.programs.can_refuse
    }

    /// Takes everything away that is pinned below a folder: attachments, maps, the mount. Nothing there is fine.
    pub fn remove_blocking(folder: &Path) -> Result<(), ConnectError> {
        if !folder.exists() {
            return Ok(());
        }
        mounted(folder)?;
        // Attachments first: without them nobody asks the maps.
        remove(&attached(folder))?;
        for maps in all_maps(folder)? {
            remove(&maps)?;
        }
        Ok(unmounted(folder)?)
    }

    /// Pins that somebody removed: without them the next daemon would find nothing. Maps are made anew, as only their
    /// programs still know the old ones; those stay in their places until new ones are filled.
    fn keep_pins(&mut self, report: &mut ConnectReport) -> Result<(), ConnectError> {
        prepare(&self.folder)?;
        if self.maps.are_pinned() {
            return Ok(());
        }
        report.repaired.push("pins of the maps".to_owned());
        (self.programs, self.maps) = open(&self.folder)?;
        (self.tables, self.settled) = (None, false);
        Ok(())
    }

    fn fill(
        &mut self,
        target: &ConnectTarget,
        look: bool,
        report: &mut ConnectReport,
    ) -> Result<(), ConnectError> {
        let known = self.tables.take();
        let mut tables = match &known {
            Some(known) if !look => known.clone(),
            _ => self.maps.read()?,
        };
        if known.is_some_and(|known| known != tables) {
            report.repaired.push("entries of the maps".to_owned());
        }
        let changes = tables.changes(target, &mut self.last);
        for change in &changes {
            // What is in the maps after a failure is read the next time.
            self.maps.apply(change)?;
            tables.apply(change);
        }
        report.changed = changes.len();
        self.tables = Some(tables);
        Ok(())
    }

    fn settle(&mut self, report: &mut ConnectReport) -> Result<(), ConnectError> {
        let root = cgroup::root()?;
        for (name, outcome) in self.programs.settle(&root, &attached(&self.folder)) {
            match outcome {
                Outcome::Stood => {}
                Outcome::Attached | Outcome::Replaced if self.settled => {
                    report.repaired.push(format!("attachment of {name}"));
                }
                Outcome::Attached | Outcome::Replaced => report.changed += 1,
                Outcome::Failed(words) => report.failed.push(format!("{name}: {words}")),
            }
        }
        if report.failed.is_empty() {
            self.settled = true;
            self.forget_others()?;
        }
        Ok(())
    }

    /// Maps of other builds, which no program in place uses any more.
    fn forget_others(&self) -> Result<(), ConnectError> {
        let own = maps_of(&self.folder);
        for maps in all_maps(&self.folder)?.into_iter().filter(|maps| *maps != own) {
            remove(&maps)?;
        }
        Ok(())
    }
}

/// Makes what pins are in.
fn prepare(folder: &Path) -> Result<(), ConnectError> {
    mounted(folder)?;
    for part in [maps_of(folder), attached(folder)] {
        make(&part)?;
    }
    Ok(())
}

/// Where maps of the present layout are.
fn maps_of(folder: &Path) -> PathBuf {
    folder.join(format!("maps-{LAYOUT}"))
}

/// Those of any layout. The kernel has files of its own in the folder.
fn all_maps(folder: &Path) -> Result<Vec<PathBuf>, ConnectError> {
    let names = entries(folder)?.into_iter().filter(|name| name.starts_with("maps-"));
    Ok(names.map(|name| folder.join(name)).collect())
}

/// Where attachments are.
fn attached(folder: &Path) -> PathBuf {
    folder.join("attached")
}

/// Programs, with the maps that are pinned; where one is missing all are made anew, so that programs have all or none.
fn open(folder: &Path) -> Result<(Programs, Maps), ConnectError> {
    let pins = maps_of(folder);
    if Maps::pinned(&pins).is_err() {
        for name in MAPS {
            remove(&pins.join(name))?;
        }
    }
    let programs = Programs::load(Some(&pins))?;
    let maps = Maps::pinned(&pins).map_err(object("open the maps that were just pinned"))?;
    Ok((programs, maps))
}
