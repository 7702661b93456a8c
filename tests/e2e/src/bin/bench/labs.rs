//! The labs of this run, which go also when it is interrupted. What is killed outright is removed by the next run.

use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use weft_lab::{Lab, LabSpec};

static OURS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Hosts on one segment.
pub(crate) fn bridged(name: &str, hosts: usize) -> LabSpec {
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    if ours.iter().all(|other| other != name) {
        ours.push(name.to_owned());
    }
    LabSpec::bridged(name, hosts)
}

/// Has the signals that end a program remove what it made first. To be called before there are other threads; processes
/// that are started do not inherit it.
pub(crate) fn remove_on_signals() {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block().unwrap();
    std::thread::spawn(move || {
        let signal = signals.wait().unwrap();
        // Nobody makes another one while this is held.
        let ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
        for name in ours.iter() {
            // Some are gone already, and cannot be opened.
            if let Ok(Err(error)) = Lab::open(name).map(Lab::down) {
                println!("bench: {error}");
            }
        }
        std::process::exit(128 + signal as i32);
    });
}
