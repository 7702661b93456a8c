//! Runs health checks: one task per running container that has one, until it ends or is paused.

use std::sync::Arc;
use std::time::Duration;

use bollard_stubs::models::ExecConfig;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Engine, Result, now};
use crate::container::health::{Health, HealthCheck, HealthStatus, Probe, uptime};
use crate::container::live::Container;
use crate::container::record::Record;

/// Output of a probe that is kept, in bytes.
const OUTPUT_MAX: usize = 4096;
/// Exit code of a probe that could not be run to its end.
const PROBE_FAILED: i64 = -1;
/// How long a killed probe gets to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);

fn check_of(record: &Record) -> Option<HealthCheck> {
    HealthCheck::of(record.config.healthcheck.as_ref(), record.config.shell.as_deref())
}

impl Engine {
    /// The health of a container, now and whenever it changes; `None` while it has no health check.
    pub fn watch_health(&self, term: &str) -> Result<watch::Receiver<Option<HealthStatus>>> {
        Ok(self.find(term)?.health.subscribe())
    }

    /// A new run begins: nothing is known of its health.
    pub(super) fn start_health(self: &Arc<Self>, container: &Arc<Container>) {
        let fresh = |record: &mut Record| {
            let before = record.state.health.take();
            record.state.health = check_of(record).map(|_| Health::starting(before));
        };
        self.change_health(container, fresh);
        self.resume_health(container);
    }

    /// Probes from now on, with what is known already.
    pub(super) fn resume_health(self: &Arc<Self>, container: &Arc<Container>) {
        let (check, known) = container.with(|record| (check_of(record), record.state.health.is_some()));
        let Some(check) = check else { return };
        if !known {
            self.change_health(container, |record| record.state.health = Some(Health::starting(None)));
        }
        let (engine, own) = (self.clone(), container.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = engine.probe_for_ever(&own, &check) => {}
                () = engine.closing.cancelled() => {}
            }
        });
        container.set_health_task(Some(AbortOnDropHandle::new(task)));
    }

    /// No more probes: it is paused.
    pub(super) fn suspend_health(&self, container: &Container) {
        container.set_health_task(None);
    }

    /// The run is over; what does not run is not healthy, says Docker.
    pub(super) fn end_health(&self, container: &Container) {
        container.set_health_task(None);
        if container.with(|record| record.state.health.is_some()) {
            self.change_health(container, |record| {
                if let Some(health) = &mut record.state.health {
                    health.status = HealthStatus::Unhealthy;
                }
            });
        }
    }

    fn change_health(&self, container: &Container, change: impl FnOnce(&mut Record)) {
        if let Err(error) = container.update(change) {
            tracing::error!(container = %container.id, %error, "health not saved");
        }
        let status = container.with(|record| record.state.health.as_ref().map(|health| health.status));
        container.health.send_if_modified(|known| std::mem::replace(known, status) != status);
    }

    async fn probe_for_ever(self: &Arc<Self>, container: &Arc<Container>, check: &HealthCheck) {
        let uptime_now = || container.with(|record| uptime(&record.state.started_at, jiff::Timestamp::now()));
        loop {
            let status = container.health.borrow().unwrap_or(HealthStatus::Starting);
            tokio::time::sleep(check.pause(status, uptime_now())).await;
            let begun = uptime_now();
            let probe = self.probe(container, check).await;
            let mut changed = None;
            self.change_health(container, |record| {
                if let Some(health) = &mut record.state.health {
                    changed = health.take(probe, check, begun);
                }
            });
            if let Some(status) = changed {
                self.container_event(container, &format!("health_status: {}", status.as_str()), &[]);
            }
        }
    }

    async fn probe(self: &Arc<Self>, container: &Container, check: &HealthCheck) -> Probe {
        let start = now();
        let (exit_code, output) = match self.run_probe(container, check).await {
            Ok(outcome) => outcome,
            Err(error) => (PROBE_FAILED, error.to_string()),
        };
        Probe { start, end: now(), exit_code, output }
    }

    async fn run_probe(
        self: &Arc<Self>,
        container: &Container,
        check: &HealthCheck,
    ) -> Result<(i64, String)> {
        let config = ExecConfig {
            cmd: Some(check.command.clone()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let exec = self.exec_create(container.id.as_str(), config).await?;
        let _forgotten = Forgotten { engine: self, exec: &exec };
        let streams = self.exec_start_told(&exec, None).await;
        let mut collected = Collected { bytes: Vec::new(), cut: false };
        let mut output = streams.output;
        let in_time = tokio::time::timeout(check.timeout, collected.take_all(&mut output)).await.is_ok();
        if !in_time {
            self.exec_kill(&exec);
            let _ = tokio::time::timeout(KILL_GRACE, collected.take_all(&mut output)).await;
        }
        let exit_code = self.exec_inspect(&exec)?.exit_code.unwrap_or(PROBE_FAILED);
        let text = collected.text();
        Ok(match in_time {
            true => (exit_code, text),
            false => (PROBE_FAILED, timeout_text(check.timeout, &text)),
        })
    }
}

/// A probe is no exec that anybody asks about later.
struct Forgotten<'a> {
    engine: &'a Engine,
    exec: &'a str,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.engine.execs.forget_one(self.exec);
    }
}

fn timeout_text(timeout: Duration, output: &str) -> String {
    let head = format!("Health check exceeded timeout ({})", go_duration(timeout));
    if output.is_empty() { head } else { format!("{head}: {output}") }
}

/// A duration in Go's words: `1m30s`, `1.5s`, `250ms`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let fraction = duration.as_secs_f64() - (seconds / 60 * 60) as f64;
    match seconds {
        0 => format!("{}ms", duration.as_secs_f64() * 1000.0),
        1..60 => format!("{fraction}s"),
        60..3600 => format!("{}m{fraction}s", seconds / 60),
        _ => format!("{}h{}m{fraction}s", seconds / 3600, seconds / 60 % 60),
    }
}

/// The beginning of a probe's output.
struct Collected {
    bytes: Vec<u8>,
    cut: bool,
}

impl Collected {
    async fn take_all(&mut self, output: &mut crate::options::OutputStream) {
        while let Some(Ok((_, data))) = output.next().await {
            let room = OUTPUT_MAX.saturating_sub(self.bytes.len());
            self.cut |= data.len() > room;
            self.bytes.extend_from_slice(&data[..data.len().min(room)]);
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.cut { format!("{text}...") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (millis, text) in
            [(250, "250ms"), (1500, "1.5s"), (30_000, "30s"), (90_000, "1m30s"), (3_600_000, "1h0m0s")]
        {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
