//! Signals by name or number.

use nix::libc;

use crate::error::EngineError;

/// Names by number, Linux on x86 and ARM (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Parses `9`, `KILL` or `SIGKILL`.
pub(crate) fn parse(text: &str) -> Result<i32, EngineError> {
    let unknown = || EngineError::Invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=31).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let name = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        other => other,
    };
    NAMES.iter().position(|known| *known == name).map(|at| at as i32 + 1).ok_or_else(unknown)
}

/// Whether a process does anything on a signal if it is the first one of its PID namespace, where the kernel drops what
/// such a process neither catches, blocks (to be told of it later) nor ignores. `status` is its `/proc/PID/status`; what
/// cannot be told counts as yes.
pub(crate) fn is_heard_by_first(status: &str, signal: i32) -> bool {
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
    };
    let masks = ["SigBlk:", "SigIgn:", "SigCgt:"].map(mask);
    let bit = u32::try_from(signal - 1).ok().and_then(|bit| 1u64.checked_shl(bit));
    match (masks, bit) {
        ([Some(blocked), Some(ignored), Some(caught)], Some(bit)) => (blocked | ignored | caught) & bit != 0,
        _ => true,
    }
}

/// Whether a process waits for signals by `sigwait` and its kin: meanwhile what it waits for is in none of the masks.
/// `call` is its `/proc/PID/syscall`.
pub(crate) fn is_awaited(call: &str) -> bool {
    call.split_whitespace().next().and_then(|number| number.parse().ok()) == Some(libc::SYS_rt_sigtimedwait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigwinch", 28), ("SYS", 31)] {
            assert_eq!(parse(text).unwrap(), number);
        }
        for bad in ["", "0", "65", "BOGUS", "-9"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_first_process_hears_what_it_has_asked_for() {
        let status = |blocked: u64, ignored: u64, caught: u64| {
            format!("Name:\tsh\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n")
        };
        let term = 1 << 14;
        assert!(!is_heard_by_first(&status(0, 0, 0), 15));
        assert!(!is_heard_by_first(&status(0, 0, !term), 15));
        for heard in [status(term, 0, 0), status(0, term, 0), status(0, 0, term), String::new()] {
            assert!(is_heard_by_first(&heard, 15), "{heard}");
        }
    }

    #[test]
    fn who_waits_for_signals_is_seen() {
        let call = format!("{} 0x7ffd 0x0 0x7ffd 0x8 0x0 0x0 0x7ffd 0x7f\n", libc::SYS_rt_sigtimedwait);
        assert!(is_awaited(&call));
        for other in ["running\n", "-1 0x7ffd 0x7f\n", "", "0 0x0"] {
            assert!(!is_awaited(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_status_is_read(status in "(Sig(Blk|Ign|Cgt):\\PC{0,20}\n){0,4}", signal in any::<i32>()) {
            let _ = is_heard_by_first(&status, signal);
        }

        #[test]
        fn any_text_is_a_signal_or_refused(text in "(?i)(sig)?[a-z0-9-]{0,8}|\\PC{0,8}") {
            if let Ok(number) = parse(&text) {
                prop_assert!((1..=31).contains(&number));
            }
        }
    }
}
