//! Programs that people drive an engine with, unmodified: Compose, SDKs, Testcontainers. `cargo xtask test e2e` fetches
//! them and says by the environment where they are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_e2e::{Failed, Hosts};
use weft_lab::{LabSpec, eventually};

/// Time in which what was asked for is seen.
const SOON: Duration = Duration::from_secs(20);

fn up(name: &str) -> Hosts {
    Hosts::up(LabSpec::bridged(name, 1))
}

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(file)
}

/// Where xtask has put something.
fn from_environment(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("no {name}: `cargo xtask test e2e` fetches it and sets this"))
}

/// Runs a program on the host, for which the daemon is the engine.
fn drive(hosts: &Hosts, variables: &[(&str, &str)], words: &[&str]) -> Result<String, Failed> {
    let host = hosts.host("h1");
    let mut command = host.command("timeout");
    command.args(["-s", "KILL", "120"]).args(words).current_dir(&host.dir);
    command.env("DOCKER_HOST", hosts.daemon("h1").url()).env("DOCKER_CONFIG", &host.dir);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        return Ok(stdout);
    }
    Err(Failed { command: words.join(" "), code: output.status.code(), stdout, stderr })
}

/// Compose's own program, and the words before its command.
fn an_application_comes_up_changes_and_goes(name: &str, program: &str) {
    let hosts = up(name);
    let file = here("application.yml").display().to_string();
    let compose = |variables: &[(&str, &str)], line: &str| {
        let words = [&[program, "-f", &file, "-p", "app"], &*line.split(' ').collect::<Vec<_>>()].concat();
        drive(&hosts, variables, &words)
    };
    let shows = |word: &str| {
        eventually("the page", SOON, || match hosts.host("h1").sh("curl -s http://127.0.0.1:8080/") {
            Ok(page) if page.trim() == word => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    compose(&[], "up -d").unwrap();
    shows("first");
    let listed = compose(&[], "ps").unwrap();
    assert!(listed.contains("healthy") && listed.contains("8080->80/tcp"), "{listed}");
    assert_eq!(compose(&[], "exec -T web wget -q -O - http://db/").unwrap(), "kept");
    let logs = compose(&[], "logs --no-color web").unwrap();
    assert!(logs.contains("| started as first"), "{logs}");
    // Nothing to do the second time; another setting makes the container anew, the volume stays.
    let id = |service: &str| compose(&[], &format!("ps -q {service}")).unwrap();
    let before = (id("web"), id("db"));
    compose(&[], "up -d").unwrap();
    assert_eq!((id("web"), id("db")), before);
    compose(&[("WORD", "second")], "up -d").unwrap();
    shows("second");
    assert_eq!(id("db"), before.1);
    assert_ne!(id("web"), before.0);

    compose(&[("WORD", "second")], "up -d --scale db=3").unwrap();
    assert_eq!(id("db").lines().count(), 3);
    compose(&[("WORD", "second")], "up -d --scale db=1").unwrap();
    compose(&[], "restart -t 1 web").unwrap();
    shows("second");
    assert_eq!(compose(&[], "run --rm -T job wget -q -O - http://front/").unwrap(), "second");
    compose(&[], "stop -t 1").unwrap();
    compose(&[], "start").unwrap();
    // In the foreground, until the first one ends, with its exit code.
    let attached = compose(&[("WORD", "second")], "--profile once up --exit-code-from job");
    let failed = attached.expect_err("the job's exit code is Compose's");
    assert_eq!(failed.code, Some(3), "{failed}");
    assert!(failed.stdout.contains("second"), "{failed}");
    compose(&[], "--profile once down -v -t 1").unwrap();
    for (what, want) in [
        ("ps -aq", ""),
        ("volume ls -q", ""),
        ("network ls --format {{.Name}}", "bridge\ndocker_gwbridge\nhost\nnone"),
    ] {
        let left = hosts.docker("h1", what).unwrap();
        assert_eq!(left.replace("docker_gwbridge\n", ""), want.replace("docker_gwbridge\n", ""), "{what}");
    }
}

#[test]
fn compose_1_runs_an_application() {
    an_application_comes_up_changes_and_goes("compose1", "docker-compose");
}

#[test]
fn compose_2_runs_an_application() {
    an_application_comes_up_changes_and_goes("compose2", &from_environment("WEFT_TEST_COMPOSE_2"));
}

#[test]
fn the_sdk_for_python_does_what_it_is_used_for() {
    let hosts = up("sdkpy");
    python(&hosts, "sdk.py");
}

#[test]
fn testcontainers_start_reach_and_remove_containers() {
    let hosts = up("tconts");
    python(&hosts, "containers.py");
    assert_eq!(hosts.docker("h1", "ps -aq").unwrap(), "");
}

fn python(hosts: &Hosts, script: &str) {
    let packages = from_environment("WEFT_TEST_PYTHON");
    let variables = [("PYTHONPATH", packages.as_str()), ("TESTCONTAINERS_RYUK_DISABLED", "true")];
    let said = drive(hosts, &variables, &["python3", &here(script).display().to_string()]);
    assert!(said.unwrap().ends_with("all of it"));
}

#[test]
fn dockerode_does_what_it_is_used_for() {
    let hosts = up("nodesdk");
    let packages = from_environment("WEFT_TEST_NODE");
    let script = here("dockerode.js").display().to_string();
    let said = drive(&hosts, &[("NODE_PATH", &packages)], &["node", &script]);
    assert!(said.unwrap().ends_with("all of it"));
}
