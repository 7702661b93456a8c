//! Health of a container as a state machine: results of probes in, the status out. Docker's rules (`daemon/health.go`).

use std::time::Duration;

use bollard_stubs::models::{HealthConfig, HealthStatusEnum, HealthcheckResult};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::image::document::RunConfig;

/// Results that are kept.
const LOG_MAX: usize = 5;
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// Shorter ones are refused: the shortest that Docker accepts.
const SHORTEST_NANOS: i64 = 1_000_000;

/// How a container with a health check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No probe has said anything yet.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// So many probes failed in a row as the check allows, or the container has ended.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How a container is probed, with Docker's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    pub(crate) timeout: Duration,
    interval: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl HealthCheck {
    /// The check of a container; `None` if it has none. `shell` is the image's for `CMD-SHELL`.
    pub(crate) fn of(config: Option<&HealthConfig>, shell: Option<&[String]>) -> Option<Self> {
        let config = config?;
        let (kind, rest) = config.test.as_deref()?.split_first()?;
        let command = match kind.as_str() {
            "CMD" => rest.to_vec(),
            "CMD-SHELL" => {
                let usual = ["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = shell.filter(|shell| !shell.is_empty()).unwrap_or(&usual);
                shell.iter().cloned().chain([rest.join(" ")]).collect()
            }
            // `NONE`, or one from a later version.
            _ => return None,
        };
        let duration = |nanos: Option<i64>, default: Duration| match nanos.and_then(|n| u64::try_from(n).ok())
        {
            None | Some(0) => default,
            Some(nanos) => Duration::from_nanos(nanos),
        };
        Some(Self {
            command,
            timeout: duration(config.timeout, TIMEOUT),
            interval: duration(config.interval, INTERVAL),
            start_period: duration(config.start_period, Duration::ZERO),
            start_interval: duration(config.start_interval, START_INTERVAL),
            retries: config.retries.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(RETRIES),
        })
    }

    /// How long until the next probe of a container that started `uptime` ago.
    pub(crate) fn pause(&self, status: HealthStatus, uptime: Duration) -> Duration {
        if status == HealthStatus::Starting && uptime < self.start_period {
            self.start_interval
        } else {
            self.interval
        }
    }
}

/// Refuses what Docker refuses.
pub(crate) fn validate(config: &HealthConfig) -> Result<(), EngineError> {
    let durations = [
        ("Interval", config.interval),
        ("Timeout", config.timeout),
        ("StartPeriod", config.start_period),
        ("StartInterval", config.start_interval),
    ];
    for (name, nanos) in durations {
        if nanos.is_some_and(|nanos| nanos != 0 && nanos < SHORTEST_NANOS) {
            return Err(EngineError::Invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if config.retries.is_some_and(|retries| retries < 0) {
        return Err(EngineError::Invalid("Retries in Healthcheck cannot be negative".to_owned()));
    }
    Ok(())
}

/// What the image says where the container leaves it open.
pub(crate) fn merge(own: Option<HealthConfig>, image: &RunConfig) -> Option<HealthConfig> {
    let image: Option<HealthConfig> =
        image.healthcheck.clone().and_then(|value| serde_json::from_value(value).ok());
    let (mut own, image) = match (own, image) {
        (Some(own), Some(image)) => (own, image),
        (own, image) => return own.or(image),
    };
    if own.test.as_deref().is_none_or(<[String]>::is_empty) {
        own.test = image.test;
    }
    let fill = |own: &mut Option<i64>, image: Option<i64>| {
        if own.unwrap_or(0) == 0 {
            *own = image;
        }
    };
    fill(&mut own.interval, image.interval);
    fill(&mut own.timeout, image.timeout);
    fill(&mut own.start_period, image.start_period);
    fill(&mut own.start_interval, image.start_interval);
    fill(&mut own.retries, image.retries);
    Some(own)
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// RFC 3339.
    pub(crate) start: String,
    pub(crate) end: String,
    /// 0 is healthy; -1 where the probe itself failed.
    pub(crate) exit_code: i64,
    pub(crate) output: String,
}

/// What the probes have said so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) status: HealthStatus,
    failing_streak: u32,
    log: Vec<Probe>,
}

impl Health {
    /// At the start of a run; the log of the last run stays, as with Docker.
    pub(crate) fn starting(before: Option<Self>) -> Self {
        let log = before.map(|before| before.log).unwrap_or_default();
        Self { status: HealthStatus::Starting, failing_streak: 0, log }
    }

    /// Takes a result in; the new status if it has changed. `uptime` is that at the probe's start.
    pub(crate) fn take(
        &mut self,
        probe: Probe,
        check: &HealthCheck,
        uptime: Duration,
    ) -> Option<HealthStatus> {
        let (before, healthy) = (self.status, probe.exit_code == 0);
        if self.log.len() >= LOG_MAX {
            self.log.drain(..=self.log.len() - LOG_MAX);
        }
        self.log.push(probe);
        // While it starts, and has never been healthy, failures do not count.
        let excused = before == HealthStatus::Starting && uptime < check.start_period;
        if healthy {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !excused {
            self.failing_streak += 1;
            if self.failing_streak >= check.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        (self.status != before).then_some(self.status)
    }

    /// As the API shows it.
    pub(crate) fn shown(&self) -> bollard_stubs::models::Health {
        let result = |probe: &Probe| HealthcheckResult {
            start: Some(probe.start.clone()),
            end: Some(probe.end.clone()),
            exit_code: Some(probe.exit_code),
            output: Some(probe.output.clone()),
        };
        bollard_stubs::models::Health {
            status: Some(match self.status {
                HealthStatus::Starting => HealthStatusEnum::STARTING,
                HealthStatus::Healthy => HealthStatusEnum::HEALTHY,
                HealthStatus::Unhealthy => HealthStatusEnum::UNHEALTHY,
            }),
            failing_streak: Some(i64::from(self.failing_streak)),
            log: Some(self.log.iter().map(result).collect()),
        }
    }
}

/// Time since a start in RFC 3339.
pub(crate) fn uptime(started_at: &str, now: Timestamp) -> Duration {
    let started = started_at.parse::<Timestamp>().unwrap_or(now);
    now.duration_since(started).try_into().unwrap_or_default()
}

#[cfg(test)]
#[path = "health_test.rs"]
mod tests;
