//! Loading programs, and finding again what a former daemon loaded.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use weft_types::{Vni, error_chain};

use super::folder::{Folder, remove};
use super::maps::{MAPS, Maps};
use super::{FastPathError, memory, object};

/// So many lines at the end of the verifier's log say why.
const VERIFIER_LINES: usize = 6;

pub(super) static HOST: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/host.bpf.o"));
pub(super) static SEGMENT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/segment.bpf.o"));

/// The programs, as their functions are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProgramName {
    Underlay,
    UplinkOutside,
    UplinkInside,
    Device,
    Endpoint,
}

impl ProgramName {
    pub(super) const HOST: [Self; 2] = [Self::Underlay, Self::UplinkOutside];
    pub(super) const SEGMENT: [Self; 3] = [Self::UplinkInside, Self::Device, Self::Endpoint];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Underlay => "from_underlay",
            Self::UplinkOutside => "from_uplink_outside",
            Self::UplinkInside => "from_uplink_inside",
            Self::Device => "from_device",
            Self::Endpoint => "from_endpoint",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::HOST.into_iter().chain(Self::SEGMENT).find(|program| program.name() == name)
    }
}

/// A program in the kernel.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) classifier: SchedClassifier,
    /// The kernel's number for it.
    pub(super) id: u32,
}

/// The programs of the host, or of a segment.
pub(super) type Programs = BTreeMap<ProgramName, Program>;

/// What tells this build's programs from another's.
pub(super) fn build() -> String {
    let mut hasher = DefaultHasher::new();
    (HOST, SEGMENT).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Loads an object: the host's, or with an identifier a segment's. Maps that are pinned in `maps` are taken from there.
pub(super) fn load(of: Option<Vni>, maps: Option<&Path>) -> Result<Ebpf, FastPathError> {
    let mut loader = EbpfLoader::new();
    let number = of.map(Vni::get).unwrap_or_default();
    if of.is_some() {
        loader.override_global("vni", &number, true);
    }
    if let Some(maps) = maps {
        for name in MAPS {
            loader.map_pin_path(name, maps.join(name));
        }
    }
    let (programs, bytes) = object_of(of);
    let loaded = loader.load(bytes);
    drop(loader);
    memory::give_back();
    let mut loaded = loaded.map_err(|error| FastPathError::Load { programs, reason: error_chain(&error) })?;
    for name in names(of) {
        classifier(&mut loaded, *name)
            .and_then(|program| program.load())
            .map_err(|error| FastPathError::Load { programs, reason: refusal(name.name(), &error) })?;
    }
    Ok(loaded)
}

fn object_of(of: Option<Vni>) -> (&'static str, &'static [u8]) {
    if of.is_some() { ("of a segment", SEGMENT) } else { ("of the host", HOST) }
}

/// The programs of an object.
pub(super) fn names(of: Option<Vni>) -> &'static [ProgramName] {
    if of.is_some() { &ProgramName::SEGMENT } else { &ProgramName::HOST }
}

/// A program of an object by its name.
pub(super) fn classifier(loaded: &mut Ebpf, name: ProgramName) -> Result<&mut SchedClassifier, ProgramError> {
    // Objects are made together with this list; a stale one is as a program that was not loaded.
    loaded.program_mut(name.name()).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// The programs that this build pinned for these maps; loaded and pinned where they are not. True where they were loaded.
pub(super) fn adopt_or_load(
    folder: &Folder,
    build: &str,
    of: Option<Vni>,
    maps: &Maps,
) -> Result<(Programs, bool), FastPathError> {
    let pins = folder.programs(build, of)?;
    if let Ok(programs) = adopt(&pins, of, maps) {
        return Ok((programs, false));
    }
    let mut loaded = load(of, Some(&folder.maps()))?;
    for name in names(of) {
        let pin = pins.join(name.name());
        remove(&pin)?;
        classifier(&mut loaded, *name)
            .map_err(object("take a program"))?
            .pin(&pin)
            .map_err(object(format!("pin {}", pin.display())))?;
    }
    adopt(&pins, of, maps).map(|programs| (programs, true)).map_err(object("adopt what was just pinned"))
}

fn adopt(pins: &Path, of: Option<Vni>, maps: &Maps) -> Result<Programs, ProgramError> {
    let mut programs = Programs::new();
    for name in names(of) {
        let classifier = SchedClassifier::from_pin(pins.join(name.name()))?;
        let info = classifier.info()?;
        // Maps whose pins were lost were made anew: programs of the old ones would see nothing.
        let stale = info.map_ids()?.is_some_and(|ids| !maps.are_among(&ids));
        if stale {
            return Err(ProgramError::NotLoaded);
        }
        programs.insert(*name, Program { id: info.id(), classifier });
    }
    Ok(programs)
}

/// The kernel's reason, and where the verifier gave one its last lines.
pub(super) fn refusal(program: &str, error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return format!("{program}: {}", error_chain(error));
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(VERIFIER_LINES)..].join("; ");
    format!("{program}: {io_error}; the verifier: {last}")
}
