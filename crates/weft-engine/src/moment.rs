//! The times that filters name: a duration before now (`10m`, `1h30m`), a date, or seconds since the epoch.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use crate::error::EngineError;
use crate::options::Filters;

/// Units of Go's durations, in nanoseconds; the longer names first.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// What is older than this is meant; none without the filter. Docker allows it once.
pub fn until(filters: &Filters) -> Result<Option<Timestamp>, EngineError> {
    let values = filters.get("until").map(Vec::as_slice).unwrap_or_default();
    match values {
        [] => Ok(None),
        [value] => parse(value, Timestamp::now())
            .map(Some)
            .ok_or_else(|| EngineError::Invalid(format!("invalid filter 'until=[{value}]'"))),
        _ => Err(EngineError::Invalid("more than one until filter specified".to_owned())),
    }
}

fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(ago) = duration(text) {
        return now.checked_sub(ago).ok();
    }
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    // A date without a zone is one of the daemon's own zone.
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return Some(at.to_zoned(TimeZone::system()).ok()?.timestamp());
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Timestamp::new(seconds.parse().ok()?, digits.parse().ok()?).ok()
}

/// Go's `time.ParseDuration`; none for a bare number, but for 0.
fn duration(text: &str) -> Option<SignedDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, size) = UNITS.iter().find(|(unit, _)| {
            let after = rest[end..].strip_prefix(unit);
            after.is_some_and(|after| !after.starts_with(|c: char| c.is_alphabetic()))
        })?;
        nanos += number * size;
        rest = &rest[end + unit.len()..];
    }
    let within = nanos <= i64::MAX as f64;
    within.then(|| SignedDuration::from_nanos((sign * nanos) as i64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_before_now_and_dates_are_dates() {
        let now = Timestamp::new(1_795_227_792, 0).unwrap();
        let ago = |seconds| Some(now - SignedDuration::from_secs(seconds));
        assert_eq!(parse("10s", now), ago(10));
        assert_eq!(parse("1h30m", now), ago(5400));
        assert_eq!(parse("1.5m", now), ago(90));
        assert_eq!(parse("300ms", now), Some(now - SignedDuration::from_millis(300)));
        assert_eq!(parse("1795227792", Timestamp::UNIX_EPOCH), Some(now));
        assert_eq!(parse("2026-11-21T02:23:12Z", Timestamp::UNIX_EPOCH), Some(now));
        assert!(parse("2026-11-21T02:23:12", now).is_some() && parse("2026-11-21", now).is_some());
        for bad in ["", "x", "10x", "1h2", "-"] {
            assert_eq!(parse(bad, now), None, "{bad}");
        }
    }

    #[test]
    fn the_filter_stands_once() {
        let filters = |values: &[&str]| {
            let values = values.iter().map(|v| (*v).to_owned()).collect();
            Filters::from([("until".to_owned(), values)])
        };
        assert!(until(&filters(&[])).unwrap().is_none());
        assert!(until(&filters(&["24h"])).unwrap().is_some());
        let text = until(&filters(&["x"])).unwrap_err().to_string();
        assert_eq!(text, "invalid filter 'until=[x]'");
        assert!(until(&filters(&["1h", "2h"])).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in "[-+0-9.a-zµ:TZ ]{0,24}|\\PC*") {
            let _ = parse(&text, Timestamp::now());
        }
    }
}
