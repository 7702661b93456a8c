//! Health checks: probes are run, told and counted.

use bollard_stubs::models::{ContainerCreateBody, HealthConfig, HealthStatusEnum};
use weft_engine::{HealthStatus, StopOptions};
use weft_types::{Classified as _, ErrorKind};

use crate::Test;
use crate::support::{Lab, eventually, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("health_follows_the_probes", || run(health_follows_the_probes)),
    ("a_probe_that_hangs_is_killed", || run(a_probe_that_hangs)),
    ("health_goes_on_after_a_restart_of_the_daemon", || run(health_after_a_restart)),
    ("without_a_check_there_is_no_health", || run(without_a_check)),
];

const MILLISECOND: i64 = 1_000_000;

fn check(body: &mut ContainerCreateBody, test: &[&str]) {
    body.healthcheck = Some(HealthConfig {
        test: Some(test.iter().map(|word| (*word).to_owned()).collect()),
        interval: Some(50 * MILLISECOND),
        timeout: Some(500 * MILLISECOND),
        retries: Some(2),
        ..HealthConfig::default()
    });
}

async fn becomes(lab: &Lab, id: &str, status: HealthStatus) {
    let mut health = lab.engine.watch_health(id).unwrap();
    timeout(health.wait_for(|now| *now == Some(status))).await.unwrap();
}

fn shown(lab: &Lab, id: &str) -> bollard_stubs::models::Health {
    lab.engine.inspect(id, false).unwrap().state.unwrap().health.unwrap()
}

fn status_text(lab: &Lab) -> String {
    lab.engine.list(&Default::default()).unwrap()[0].status.clone().unwrap()
}

async fn health_follows_the_probes(lab: Lab) {
    let mut events = lab.engine.events();
    let id = lab
        .start("sleep 1000", |body| check(body, &["CMD-SHELL", "echo probed; cat /tmp/well >/dev/null"]))
        .await;
    assert_eq!(shown(&lab, &id).status, Some(HealthStatusEnum::STARTING));
    assert!(status_text(&lab).ends_with(" (health: starting)"), "{}", status_text(&lab));
    becomes(&lab, &id, HealthStatus::Unhealthy).await;
    let log = shown(&lab, &id).log.unwrap();
    assert!(log.len() >= 2 && log[0].exit_code == Some(1), "{log:?}");
    assert!(log[0].output.as_deref().unwrap().starts_with("probed\n"), "{log:?}");
    lab.exec(&id, &["touch", "/tmp/well"]).await;
    becomes(&lab, &id, HealthStatus::Healthy).await;
    assert_eq!(shown(&lab, &id).failing_streak, Some(0));
    assert!(status_text(&lab).ends_with(" (healthy)"), "{}", status_text(&lab));
    let filters = |value: &str| weft_engine::ListOptions {
        filters: [("health".to_owned(), vec![value.to_owned()])].into(),
        ..Default::default()
    };
    assert_eq!(lab.engine.list(&filters("healthy")).unwrap().len(), 1);
    assert_eq!(lab.engine.list(&filters("unhealthy")).unwrap().len(), 0);
    // Probes are no execs that anybody sees afterwards; one may be under way.
    let execs = lab.engine.inspect(&id, false).unwrap().exec_ids.unwrap_or_default();
    assert!(execs.len() <= 2, "{execs:?}");

    lab.engine.pause(&id).await.unwrap();
    assert!(status_text(&lab).ends_with("(Paused)"), "{}", status_text(&lab));
    lab.engine.unpause(&id).await.unwrap();
    lab.exec(&id, &["rm", "/tmp/well"]).await;
    becomes(&lab, &id, HealthStatus::Unhealthy).await;
    let quick = StopOptions { timeout: Some(0), ..StopOptions::default() };
    lab.engine.stop(&id, quick).await.unwrap();
    assert_eq!(shown(&lab, &id).status, Some(HealthStatusEnum::UNHEALTHY));
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.extend(event.action.strip_prefix("health_status: ").map(str::to_owned));
    }
    assert_eq!(told, ["unhealthy", "healthy", "unhealthy"]);
}

async fn a_probe_that_hangs(lab: Lab) {
    let id =
        lab.start("sleep 1000", |body| check(body, &["CMD", "sh", "-c", "echo waiting; sleep 777"])).await;
    becomes(&lab, &id, HealthStatus::Unhealthy).await;
    let log = shown(&lab, &id).log.unwrap();
    assert_eq!(log[0].exit_code, Some(-1));
    assert_eq!(log[0].output.as_deref(), Some("Health check exceeded timeout (500ms): waiting\n"));
    // A program that is not there is a failed probe too.
    let id = lab.start("sleep 1000", |body| check(body, &["CMD", "nosuch"])).await;
    becomes(&lab, &id, HealthStatus::Unhealthy).await;
    let log = shown(&lab, &id).log.unwrap();
    assert_ne!(log[0].exit_code, Some(0));
    assert!(log[0].output.as_deref().unwrap().contains("nosuch"), "{log:?}");
}

async fn health_after_a_restart(mut lab: Lab) {
    let id = lab.start("sleep 1000", |body| check(body, &["CMD", "test", "-e", "/tmp/well"])).await;
    lab.exec(&id, &["touch", "/tmp/well"]).await;
    becomes(&lab, &id, HealthStatus::Healthy).await;
    lab.engine.abandon();
    lab.reopen(true).await;
    assert_eq!(shown(&lab, &id).status, Some(HealthStatusEnum::HEALTHY));
    lab.exec(&id, &["rm", "/tmp/well"]).await;
    becomes(&lab, &id, HealthStatus::Unhealthy).await;
    // A new run of it begins anew.
    let quick = StopOptions { timeout: Some(0), ..StopOptions::default() };
    lab.engine.restart(&id, quick).await.unwrap();
    becomes(&lab, &id, HealthStatus::Starting).await;
}

async fn without_a_check(lab: Lab) {
    let id = lab.start("sleep 1000", |body| check(body, &["NONE"])).await;
    assert_eq!(lab.engine.inspect(&id, false).unwrap().state.unwrap().health, None);
    assert_eq!(*lab.engine.watch_health(&id).unwrap().borrow(), None);
    eventually(|| status_text(&lab).starts_with("Up").then_some(())).await;
    assert!(!status_text(&lab).contains("health"));
    let mut body = crate::support::shell("true");
    body.healthcheck = Some(HealthConfig { interval: Some(1000), ..HealthConfig::default() });
    let error = lab.engine.create(None, body).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert_eq!(error.to_string(), "Interval in Healthcheck cannot be less than 1ms");
}
