//! The filter `until` of prunes and lists: what is older than a time, or than a span before now.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::error::EngineError;
use crate::options::Filters;

/// The time that `until` asks for; `None` without the filter. Refused in Docker's words.
pub fn until(filters: &Filters) -> Result<Option<Timestamp>, EngineError> {
    let values = filters.get("until").map(Vec::as_slice).unwrap_or_default();
    match values {
        [] => Ok(None),
        [text] => at(text, Timestamp::now()).map(Some).ok_or_else(|| {
            EngineError::Invalid(format!("failed to parse value as time or duration: {text:?}"))
        }),
        _ => Err(EngineError::Invalid("more than one until filter specified".to_owned())),
    }
}

/// A span before `now` (`24h`), seconds since the epoch, or a time as RFC 3339 has it, also without its end.
fn at(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok();
    }
    if let Some(span) = weft_types::parse_duration(text) {
        return now.checked_sub(span).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let local = match text.parse::<DateTime>() {
        Ok(time) => time,
        Err(_) => text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight()),
    };
    local.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp())
}

/// Whether what was made then (RFC 3339) is old enough; what does not say when it was made is not.
pub fn is_before(created: &str, until: Option<Timestamp>) -> bool {
    match (until, created.parse::<Timestamp>()) {
        (None, _) => true,
        (Some(until), Ok(created)) => created <= until,
        (Some(_), Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_dockers_users_write_them() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        for (text, wanted) in [
            ("24h", "2026-01-01T00:00:00Z"),
            ("1h30m", "2026-01-01T22:30:00Z"),
            ("1767225600", "2026-01-01T00:00:00Z"),
            ("1767225600.5", "2026-01-01T00:00:00.5Z"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(at(text, now), Some(wanted.parse().unwrap()), "{text}");
        }
        assert!(at("2026-01-01", now).is_some() && at("2026-01-01T10:00:00", now).is_some());
        assert!(at("yesterday", now).is_none() && at("", now).is_none());
        let filters = |values: &[&str]| {
            BTreeMap::from([("until".to_owned(), values.iter().map(|v| (*v).to_owned()).collect())])
        };
        assert_eq!(
            until(&filters(&["x"])).unwrap_err().to_string(),
            "failed to parse value as time or duration: \"x\""
        );
        assert!(until(&filters(&["1h", "2h"])).is_err());
        assert!(
            !is_before("2026-01-02T00:00:00Z", at("24h", now))
                && is_before("2025-12-31T00:00:00Z", at("24h", now))
                && is_before("", None)
                && !is_before("", at("24h", now))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in ".{0,30}") {
            let _ = at(&text, Timestamp::UNIX_EPOCH);
        }
    }
}
