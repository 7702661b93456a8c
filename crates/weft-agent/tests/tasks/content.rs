//! What a task's container finds inside.

use weft_wire::swarmkit::assignment::Item;
use weft_wire::swarmkit::mount::{Type, VolumeOptions};
use weft_wire::swarmkit::{
    Annotations, Config, ConfigReference, ConfigSpec, Driver, FileTarget, Mount, Secret, SecretReference,
    SecretSpec, TaskState, config_reference, secret_reference,
};

use crate::support::{container_of, eventually, run, task};

pub(crate) const TESTS: &[crate::Test] = &[
    ("placeholders_are_filled_in", placeholders),
    ("a_bad_placeholder_is_rejected", bad_placeholder),
    ("secrets_and_configs_are_files_in_memory_and_go_with_the_task", secrets),
    ("a_task_waits_for_its_secret", waits_for_secret),
    ("a_templated_config_is_expanded", templated),
    ("volumes_and_tmpfs_are_mounted", mounts),
];

const HUSH: &str = "correct-horse-battery-staple";

fn secret(id: &str) -> Secret {
    let annotations = Annotations { name: "password".to_owned(), ..Annotations::default() };
    let data = HUSH.as_bytes().to_vec();
    let spec = SecretSpec { annotations: Some(annotations), data, ..SecretSpec::default() };
    Secret { id: id.to_owned(), spec: Some(spec), ..Secret::default() }
}

fn secret_reference(id: &str) -> SecretReference {
    let file = FileTarget { name: "password".into(), uid: "0".into(), gid: "33".into(), mode: 0o440 };
    SecretReference {
        secret_id: id.to_owned(),
        secret_name: "password".to_owned(),
        target: Some(secret_reference::Target::File(file)),
    }
}

fn config(id: &str, data: &str, templating: bool) -> Config {
    let templating = templating.then(|| Driver { name: "golang".to_owned(), ..Driver::default() });
    let spec = ConfigSpec { data: data.as_bytes().to_vec(), templating, ..ConfigSpec::default() };
    Config { id: id.to_owned(), spec: Some(spec), ..Config::default() }
}

fn config_reference(id: &str, name: &str) -> ConfigReference {
    let file = FileTarget { name: name.into(), uid: "0".into(), gid: "0".into(), mode: 0o444 };
    ConfigReference {
        config_id: id.to_owned(),
        config_name: "conf".to_owned(),
        target: Some(config_reference::Target::File(file)),
    }
}

fn placeholders() {
    run(|lab| async move {
        lab.assign([task("t1", 4, "hostname; echo $WHO", |spec| {
            spec.hostname = "{{.Service.Name}}-{{.Task.Slot}}".to_owned();
            spec.env.push("WHO={{.Node.Hostname}}/{{.Task.Name}}".to_owned());
        })]);
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!(status.state(), TaskState::Complete, "{}", status.err);
        let container = container_of(&status).container_id;
        let hostname = lab.inspect(&container).unwrap().config.unwrap().hostname;
        assert_eq!(hostname.as_deref(), Some("web-4"));
        assert_eq!(lab.log(&container).await.last().unwrap(), "bench/web.4.t1");
    });
}

fn bad_placeholder() {
    run(|lab| async move {
        lab.assign([task("t1", 1, "true", |spec| spec.env.push("A={{.Bogus}}".to_owned()))]);
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!(status.state(), TaskState::Rejected);
        assert!(status.err.starts_with("expanding env failed: template: expansion:1:"), "{}", status.err);
    });
}

fn secrets() {
    run(|lab| async move {
        let script = "stat -c '%a %u %g' /run/secrets/password; cat /run/secrets/password; echo; cat /etc/app.conf; \
                      echo x > /run/secrets/password; sleep 100";
        let assigned = task("t1", 1, script, |spec| {
            spec.secrets.push(secret_reference("s1"));
            spec.configs.push(config_reference("c1", "/etc/app.conf"));
            spec.stop_signal = "SIGKILL".to_owned();
        });
        let items = vec![
            Item::Secret(secret("s1")),
            Item::Config(config("c1", "key=value\n", false)),
            Item::Task(assigned.clone()),
        ];
        lab.bench().assign(items, Vec::new());
        let status = lab.reaches("t1", TaskState::Running).await;
        assert_eq!(status.state(), TaskState::Running, "{}", status.err);
        let container = container_of(&status).container_id;
        let mut lines = Vec::new();
        for _ in 0..500 {
            lines = lab.log(&container).await;
            if lines.len() >= 4 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(lines[..3], ["440 0 33".to_owned(), HUSH.to_owned(), "key=value".to_owned()]);
        assert!(lines[3].contains("Read-only file system"), "{lines:?}");
        let logged = lab.inspect(&container).unwrap().log_path.unwrap();
        assert_eq!(
            files_with(lab.dir.path(), HUSH),
            [std::path::PathBuf::from(logged)],
            "only what it has printed"
        );
        lab.unassign([assigned]);
        eventually("the container gone", || lab.inspect("web.1.t1").is_none().then_some(())).await;
        let left = std::fs::read_dir(lab.dir.path().join("swarm/task-files")).unwrap().count();
        assert_eq!(left, 0);
    });
}

/// Files on disk below `dir` that contain `text`.
fn files_with(dir: &std::path::Path, text: &str) -> Vec<std::path::PathBuf> {
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_mount = |path: &std::path::Path| mounted.contains(&format!(" {} ", path.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && !is_mount(&path) {
            found.extend(files_with(&path, text));
        } else if kind.is_file() {
            let content = std::fs::read(&path).unwrap_or_default();
            if content.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

fn waits_for_secret() {
    run(|lab| async move {
        lab.assign([task("t1", 1, "cat /run/secrets/password", |spec| {
            spec.secrets.push(secret_reference("s1"));
        })]);
        lab.reaches("t1", TaskState::Preparing).await;
        assert!(lab.inspect("web.1.t1").is_none());
        lab.bench().assign(vec![Item::Secret(secret("s1"))], Vec::new());
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!(status.state(), TaskState::Complete, "{}", status.err);
        assert_eq!(lab.log(&container_of(&status).container_id).await, [HUSH]);
    });
}

fn templated() {
    run(|lab| async move {
        let text = "task={{.Task.Name}} level={{env \"LEVEL\"}} key={{secret \"password\"}}";
        let assigned = task("t1", 1, "cat /app.conf", |spec| {
            spec.env.push("LEVEL=7".to_owned());
            spec.secrets.push(secret_reference("s1"));
            spec.configs.push(config_reference("c1", "app.conf"));
        });
        let items =
            vec![Item::Secret(secret("s1")), Item::Config(config("c1", text, true)), Item::Task(assigned)];
        lab.bench().assign(items, Vec::new());
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!(status.state(), TaskState::Complete, "{}", status.err);
        let lines = lab.log(&container_of(&status).container_id).await;
        assert_eq!(lines, [format!("task=web.1.t1 level=7 key={HUSH}")]);
    });
}

fn mounts() {
    run(|lab| async move {
        let volume = Mount {
            r#type: Type::Volume.into(),
            source: "data-{{.Task.Slot}}".to_owned(),
            target: "/data".to_owned(),
            volume_options: Some(VolumeOptions::default()),
            ..Mount::default()
        };
        let memory = Mount { r#type: Type::Tmpfs.into(), target: "/scratch".to_owned(), ..Mount::default() };
        let script = "touch /data/a /scratch/b && grep -c ' /scratch tmpfs' /proc/mounts";
        lab.assign([task("t1", 3, script, |spec| spec.mounts = vec![volume, memory])]);
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!(status.state(), TaskState::Complete, "{}", status.err);
        assert!(lab.engine().volumes().get("data-3").is_ok());
    });
}
