//! Numbers as Go writes them.

use serde_json::{Number, Value};

/// Decimal, `0x`, `0o`, `0b` and fractions.
pub(super) fn parse(digits: &str) -> Result<Value, String> {
    let bad = || format!("bad number syntax: {digits:?}");
    let plain = digits.replace('_', "");
    let (sign, magnitude) = match plain.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    let lower = magnitude.to_ascii_lowercase();
    for (prefix, radix) in radix {
        if let Some(rest) = lower.strip_prefix(prefix) {
            return i64::from_str_radix(rest, radix).map(|n| Value::from(sign * n)).map_err(|_| bad());
        }
    }
    if let Ok(whole) = lower.parse::<i64>() {
        return Ok(Value::from(sign * whole));
    }
    let fraction: f64 = lower.parse().map_err(|_| bad())?;
    Number::from_f64(fraction * sign as f64).map(Value::Number).ok_or_else(bad)
}

/// A number as `%v` prints it.
pub(super) fn text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => match float {
            _ if float == 0.0 => "0".to_owned(),
            // Go's %g with the shortest digits; the exponent has two at least.
            _ if !(1e-4..1e21).contains(&float.abs()) => {
                let shown = format!("{float:e}");
                let (digits, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                format!("{digits}e{sign}{exponent:0>2}")
            }
            _ => format!("{float}"),
        },
        _ => number.to_string(),
    }
}
