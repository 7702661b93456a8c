//! Times as Go prints them: RFC 3339 in UTC with as many digits of the second as needed.

use std::time::SystemTime;

use prost_types::{Duration, Timestamp};

/// Go's zero time.
const ZERO: &str = "0001-01-01T00:00:00Z";

pub(crate) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| ZERO.to_owned(), |t| t.to_string())
}

pub(crate) fn rfc3339_proto(time: Option<&Timestamp>) -> String {
    time.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok())
        .map_or_else(|| ZERO.to_owned(), |t| t.to_string())
}

/// With all nine digits of the second: log lines keep their width.
pub(crate) fn rfc3339_fixed(time: Option<&Timestamp>) -> String {
    time.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok())
        .map_or_else(|| ZERO.to_owned(), |t| format!("{t:.9}"))
}

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// Docker's durations are nanoseconds.
pub(super) fn nanos(duration: Option<&Duration>) -> i64 {
    duration.map_or(0, |d| d.seconds.saturating_mul(NANOS).saturating_add(i64::from(d.nanos)))
}

pub(super) fn duration(nanos: i64) -> Duration {
    Duration { seconds: nanos / NANOS, nanos: (nanos % NANOS) as i32 }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{ZERO, rfc3339, rfc3339_fixed, rfc3339_proto};

    #[test]
    fn times_look_like_gos() {
        let at = UNIX_EPOCH + Duration::new(1_795_227_792, 584_354_143);
        assert_eq!(rfc3339(at), "2026-11-21T02:23:12.584354143Z");
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(1)), "1970-01-01T00:00:01Z");
        assert_eq!(rfc3339_proto(None), ZERO);
        let half = prost_types::Timestamp { seconds: 1, nanos: 500_000_000 };
        assert_eq!(rfc3339_fixed(Some(&half)), "1970-01-01T00:00:01.500000000Z");
    }
}
