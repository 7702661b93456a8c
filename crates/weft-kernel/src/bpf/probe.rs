//! Whether this kernel can do what the programs ask of it. Found out by trying, as distributions carry newer parts of
//! the kernel in older ones.

use std::net::Ipv4Addr;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapError};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, TestRun, TestRunOptions};
use nix::net::if_::if_nametoindex;
use weft_plan::{BridgeOptions, Link, LinkKind, Op, OverlayNetwork};
use weft_types::{MacAddr, Vni, error_chain};

use super::layout::{self, Key, Settings, Station};
use super::programs::{self, ProgramName, classifier};
use super::{Attachment, FastPathError, object};
use crate::{Kernel, Netns};

/// What a program returns that sent a packet elsewhere (`TC_ACT_REDIRECT`).
pub(super) const REDIRECT: u32 = 7;

/// How programs are attached here.
pub(super) fn probe() -> Result<Attachment, FastPathError> {
    let netns = Netns::anonymous()?;
    let out = interface(&netns)?;
    netns.run_in(|| {
        let mut segment = programs::load(Some(Vni::FIRST), None).map_err(unsupported)?;
        programs::load(None, None).map_err(unsupported)?;
        try_to_send(&mut segment, out)?;
        Ok(if has_tcx(&mut segment) { Attachment::Tcx } else { Attachment::Filter })
    })?
}

fn unsupported(error: FastPathError) -> FastPathError {
    FastPathError::Unsupported { reason: error_chain(&error) }
}

/// The number of an interface to send to: a program asks whether there is one.
fn interface(netns: &Netns) -> Result<u32, FastPathError> {
    let failed = |reason: String| FastPathError::Unsupported { reason };
    let name = OverlayNetwork::bridge_name(0);
    let link = Link::new(LinkKind::Bridge(BridgeOptions { multicast_snooping: false }));
    let kernel = Kernel::open_blocking(netns.clone())?;
    let made = kernel.apply_blocking(&[Op::CreateLink { name: name.clone(), link }]);
    made.into_result().map_err(|error| failed(error.to_string()))?;
    netns.run_in(|| if_nametoindex(name.as_str()).map_err(|errno| failed(errno.to_string())))?
}

/// Kernels before 5.13 load the program, but do not know how the frame inside begins.
fn try_to_send(segment: &mut Ebpf, out: u32) -> Result<(), FastPathError> {
    let (vtep, station) = (Ipv4Addr::new(192, 0, 2, 1), MacAddr([2, 0, 0, 0, 0, 1]));
    let key = layout::key(Vni::FIRST, station);
    let write = |segment: &mut Ebpf| -> Result<(), MapError> {
        set_station(segment, &key, &layout::tunnel(vtep.into(), Some(out)))?;
        set_settings(segment, layout::settings(vtep.into(), 4789, 1500, None))
    };
    write(segment).map_err(object("write to maps"))?;
    let mut frame = [0; 64];
    frame[..6].copy_from_slice(&station.0);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
    let run = classifier(segment, ProgramName::Endpoint).and_then(|program| program.test_run(options));
    match run.map_err(object("run a program for a test"))?.return_value {
        REDIRECT => Ok(()),
        _ => Err(FastPathError::Unsupported {
            reason: "frames cannot be put into tunnel packets (Linux 5.13 or later is needed)".to_owned(),
        }),
    }
}

fn has_tcx(segment: &mut Ebpf) -> bool {
    let attach = |program: &mut SchedClassifier| {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        program.attach_with_options("lo", TcAttachType::Ingress, options)
    };
    classifier(segment, ProgramName::Endpoint).is_ok_and(|program| attach(program).is_ok())
}

pub(super) fn set_station(loaded: &mut Ebpf, key: &Key, station: &Station) -> Result<(), MapError> {
    let missing = || MapError::InvalidMapType { map_type: 0 };
    let map = loaded.map_mut("stations").ok_or_else(missing)?;
    HashMap::<_, Key, Station>::try_from(map)?.insert(key, station, 0)
}

pub(super) fn set_settings(loaded: &mut Ebpf, settings: Settings) -> Result<(), MapError> {
    let missing = || MapError::InvalidMapType { map_type: 0 };
    let map = loaded.map_mut("settings").ok_or_else(missing)?;
    Array::<_, Settings>::try_from(map)?.set(0, settings, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_a_fast_path() {
        let attachment = probe().unwrap();
        assert!([Attachment::Tcx, Attachment::Filter].contains(&attachment));
    }
}
