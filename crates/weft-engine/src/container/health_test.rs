use super::*;

fn config(test: &[&str]) -> HealthConfig {
    HealthConfig {
        test: Some(test.iter().map(|word| (*word).to_owned()).collect()),
        ..HealthConfig::default()
    }
}

fn check(start_period_secs: u64) -> HealthCheck {
    HealthCheck {
        start_period: Duration::from_secs(start_period_secs),
        ..HealthCheck::of(Some(&config(&["CMD", "true"])), None).unwrap()
    }
}

fn probe(exit_code: i64) -> Probe {
    Probe { start: String::new(), end: String::new(), exit_code, output: String::new() }
}

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn commands_are_run_as_docker_runs_them() {
    let command = |test: &[&str]| HealthCheck::of(Some(&config(test)), None).map(|check| check.command);
    assert_eq!(command(&["CMD", "a", "b"]).unwrap(), ["a", "b"]);
    assert_eq!(command(&["CMD-SHELL", "a || exit 1"]).unwrap(), ["/bin/sh", "-c", "a || exit 1"]);
    for none in [&["NONE"][..], &[]] {
        assert_eq!(command(none), None);
    }
    let shell = ["/bin/bash".to_owned(), "-ec".to_owned()];
    let check = HealthCheck::of(Some(&config(&["CMD-SHELL", "a"])), Some(&shell)).unwrap();
    assert_eq!(check.command, ["/bin/bash", "-ec", "a"]);
    assert_eq!((check.interval, check.timeout, check.retries), (INTERVAL, TIMEOUT, RETRIES));
}

#[test]
fn so_many_failures_in_a_row_make_it_unhealthy() {
    let (check, mut health) = (check(0), Health::starting(None));
    assert_eq!(health.take(probe(1), &check, at(1)), None);
    assert_eq!(health.take(probe(0), &check, at(2)), Some(HealthStatus::Healthy));
    assert_eq!(health.take(probe(1), &check, at(3)), None);
    assert_eq!(health.take(probe(-1), &check, at(4)), None);
    assert_eq!(health.take(probe(1), &check, at(5)), Some(HealthStatus::Unhealthy));
    assert_eq!(health.take(probe(1), &check, at(6)), None);
    assert_eq!(health.shown().failing_streak, Some(4));
    assert_eq!(health.shown().log.unwrap().len(), LOG_MAX);
    assert_eq!(health.take(probe(0), &check, at(7)), Some(HealthStatus::Healthy));
}

#[test]
fn failures_while_starting_do_not_count_until_it_was_healthy_once() {
    let (check, mut health) = (check(10), Health::starting(None));
    for _ in 0..5 {
        assert_eq!(health.take(probe(1), &check, at(9)), None);
    }
    assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
    assert_eq!(health.take(probe(0), &check, at(9)), Some(HealthStatus::Healthy));
    for _ in 0..2 {
        assert_eq!(health.take(probe(1), &check, at(9)), None);
    }
    assert_eq!(health.take(probe(1), &check, at(9)), Some(HealthStatus::Unhealthy));
}

#[test]
fn it_is_asked_more_often_while_it_starts() {
    let check = check(10);
    assert_eq!(check.pause(HealthStatus::Starting, at(9)), START_INTERVAL);
    assert_eq!(check.pause(HealthStatus::Starting, at(10)), INTERVAL);
    assert_eq!(check.pause(HealthStatus::Healthy, at(1)), INTERVAL);
}

#[test]
fn what_docker_refuses_is_refused() {
    let text = |config: HealthConfig| validate(&config).unwrap_err().to_string();
    let short = HealthConfig { interval: Some(1000), ..HealthConfig::default() };
    assert_eq!(text(short), "Interval in Healthcheck cannot be less than 1ms");
    let negative = HealthConfig { retries: Some(-1), ..HealthConfig::default() };
    assert_eq!(text(negative), "Retries in Healthcheck cannot be negative");
    assert!(validate(&config(&["CMD", "x"])).is_ok());
}

#[test]
fn the_image_fills_what_the_container_leaves_open() {
    let image = RunConfig {
        healthcheck: Some(serde_json::json!({"Test": ["CMD", "image"], "Interval": 2_000_000_000_i64})),
        ..RunConfig::default()
    };
    let own = HealthConfig { retries: Some(7), ..HealthConfig::default() };
    let merged = merge(Some(own), &image).unwrap();
    assert_eq!(merged.test.unwrap(), ["CMD", "image"]);
    assert_eq!((merged.interval, merged.retries), (Some(2_000_000_000), Some(7)));
    assert_eq!(merge(None, &image).unwrap().test.unwrap(), ["CMD", "image"]);
    assert_eq!(merge(Some(config(&["NONE"])), &image).unwrap().test.unwrap(), ["NONE"]);
}
