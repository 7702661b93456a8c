//! Docker's texts about the state of a container: `Up 3 seconds`, `Exited (137) 2 hours ago`.

use jiff::Timestamp;

use super::health::HealthStatus;
use super::record::{Phase, RunState};

/// The status column of `docker ps`.
pub(crate) fn text(state: &RunState, now: Timestamp) -> String {
    let since = |time: &str| {
        let seconds = time.parse::<Timestamp>().map(|time| now.as_second() - time.as_second()).unwrap_or(0);
        human(seconds.max(0))
    };
    match state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running if state.paused => format!("Up {} (Paused)", since(&state.started_at)),
        Phase::Running => {
            let health = match state.health.as_ref().map(|health| health.status) {
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
                None => "",
            };
            format!("Up {}{health}", since(&state.started_at))
        }
        Phase::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Phase::Removing => "Removal In Progress".to_owned(),
    }
}

/// A duration as `docker/go-units` words it.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_worded_as_by_docker() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (3, "3 seconds"),
            (61, "About a minute"),
            (300, "5 minutes"),
            (3700, "About an hour"),
            (7300, "2 hours"),
            (3 * 86400, "3 days"),
            (15 * 86400, "2 weeks"),
        ] {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn an_exit_shows_its_code_and_age() {
        let now: Timestamp = "2026-11-21T04:00:10Z".parse().unwrap();
        let state = RunState {
            phase: Phase::Exited,
            exit_code: 137,
            finished_at: "2026-11-21T04:00:08Z".to_owned(),
            ..RunState::default()
        };
        assert_eq!(text(&state, now), "Exited (137) 2 seconds ago");
    }
}
