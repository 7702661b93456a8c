//! Signals by name or number.

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

    proptest! {
        #[test]
        fn any_text_is_a_signal_or_refused(text in "(?i)(sig)?[a-z0-9-]{0,8}|\\PC{0,8}") {
            if let Ok(number) = parse(&text) {
                prop_assert!((1..=31).contains(&number));
            }
        }
    }
}
