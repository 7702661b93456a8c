//! What tasks of services ask of their containers.

use std::collections::HashMap;

use bollard_stubs::models::{
    EndpointSettings, Mount, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkingConfig,
};
use weft_types::{Classified as _, ContainerId, ErrorKind};

use crate::Test;
use crate::support::{Lab, host, run, shell};

pub(crate) const TESTS: &[Test] = &[
    ("mounts_keep_their_options", || run(mounts_keep_their_options)),
    ("mounts_that_cannot_be_as_asked_are_refused", || run(mounts_are_refused)),
    ("a_first_process_reaps", || run(a_first_process_reaps)),
    ("a_task_is_on_its_networks_only", || run(a_task_is_on_its_networks_only)),
    ("the_daemons_own_mounts_are_not_shown", || run(private_mounts)),
    ("twenty_tasks_start_at_once", || run(twenty_tasks_start_at_once)),
    ("a_rename_reaches_the_network", || run(a_rename_reaches_the_network)),
    ("a_withdrawn_place_is_left_whoever_runs_the_container", || {
        run(a_withdrawn_place_is_left_whoever_runs_the_container)
    }),
];

fn volume(name: &str, target: &str, options: MountVolumeOptions) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(target.to_owned()),
        volume_options: Some(options),
        ..Mount::default()
    }
}

async fn mounts_keep_their_options(lab: Lab) {
    let labels = HashMap::from([("team".to_owned(), "a".to_owned())]);
    let labelled = MountVolumeOptions { labels: Some(labels), ..MountVolumeOptions::default() };
    let empty = MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() };
    let scratch = Mount {
        typ: Some(MountType::TMPFS),
        target: Some("/scratch".to_owned()),
        tmpfs_options: Some(MountTmpfsOptions {
            size_bytes: Some(1 << 20),
            mode: Some(0o750),
            options: Some(vec![vec!["uid".to_owned(), "1000".to_owned()]]),
        }),
        ..Mount::default()
    };
    let secrets = lab.dir.path().join("secret");
    std::fs::write(&secrets, "s3cret").unwrap();
    let secret = Mount {
        typ: Some(MountType::BIND),
        source: Some(secrets.display().to_string()),
        target: Some("/run/secrets/key".to_owned()),
        read_only: Some(true),
        ..Mount::default()
    };
    let script = "ls /data /again; cat /run/secrets/key; echo; echo x 2>/dev/null >/run/secrets/key || echo read-only; \
                  stat -c '%a %u' /scratch; df -k /scratch | tail -1 | awk '{print $2}'";
    let (code, out, err) = lab
        .run(script, |body| {
            host(body).mounts = Some(vec![
                volume("full", "/data", labelled),
                volume("empty", "/again", empty),
                scratch,
                secret,
            ]);
        })
        .await;
    assert_eq!(
        (code, out.as_str()),
        (0, "/again:\n\n/data:\nfirst\ns3cret\nread-only\n750 1000\n1024\n"),
        "{err}"
    );
    assert_eq!(lab.engine.volumes().get("full").unwrap().labels["team"], "a");
    // Over /data of the image, without its content.
    let over = MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() };
    let (_, out, _) =
        lab.run("ls /data", |body| host(body).mounts = Some(vec![volume("bare", "/data", over)])).await;
    assert_eq!(out, "");
}

async fn mounts_are_refused(lab: Lab) {
    let driver = |name: &str, options: &[(&str, &str)]| MountVolumeOptions {
        driver_config: Some(MountVolumeOptionsDriverConfig {
            name: Some(name.to_owned()),
            options: Some(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        }),
        ..MountVolumeOptions::default()
    };
    let subpath = MountVolumeOptions { subpath: Some("a".to_owned()), ..MountVolumeOptions::default() };
    for (options, kind, words) in [
        (
            driver("flocker", &[]),
            ErrorKind::NotFound,
            "create vol: error looking up volume plugin flocker: plugin \"flocker\" not found",
        ),
        (
            driver("local", &[("type", "nfs")]),
            ErrorKind::InvalidParameter,
            "create vol: missing required option: \"device\"",
        ),
        (subpath, ErrorKind::NotImplemented, "subpaths of volumes are not supported"),
    ] {
        let mut body = shell("true");
        host(&mut body).mounts = Some(vec![volume("vol", "/v", options)]);
        let error = lab.engine.create(None, body).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, words));
    }
}

async fn a_first_process_reaps(lab: Lab) {
    // The orphan of the inner shell is reaped by the first process: no zombie stays.
    let script = "cat /proc/1/comm; sh -c 'sleep 0.1 & exit 0'; sleep 0.5; grep -l 'Z (zombie)' /proc/[0-9]*/status; exit 7";
    let (code, out, err) = lab.run(script, |body| host(body).init = Some(true)).await;
    assert_eq!(code, 7, "{err}");
    assert!(["docker-init\n", "tini-static\n"].contains(&out.as_str()), "{out}");
}

async fn a_task_is_on_its_networks_only(lab: Lab) {
    let label = ("com.docker.swarm.task.id".to_owned(), "t1".to_owned());
    let id = lab
        .create("true", |body| {
            host(body).network_mode = None;
            body.labels = Some(HashMap::from([label]));
            body.networking_config = Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([("web".to_owned(), EndpointSettings::default())])),
            });
        })
        .await;
    let view = lab.engine.inspect(&id, false).unwrap();
    let networks = view.network_settings.unwrap().networks.unwrap();
    assert_eq!(networks.keys().collect::<Vec<_>>(), ["web"]);
    assert_eq!(view.host_config.unwrap().network_mode.as_deref(), Some("bridge"));
    lab.engine.start(&id).await.unwrap();
}

async fn private_mounts(lab: Lab) {
    let private = lab.dir.path().join("private");
    std::fs::create_dir_all(&private).unwrap();
    std::fs::write(private.join("key"), "hush").unwrap();
    let bind = |source: &std::path::Path, target: &str| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.to_owned()),
        ..Mount::default()
    };
    let mounts = vec![bind(&private.join("key"), "/run/secrets/key"), bind(lab.dir.path(), "/shown")];
    let id = lab.start("cat /run/secrets/key; sleep 1000", |body| host(body).mounts = Some(mounts)).await;
    let view = lab.engine.inspect(&id, false).unwrap();
    assert_eq!(view.mounts.unwrap().len(), 1);
    assert_eq!(view.host_config.unwrap().mounts.unwrap().len(), 1);
    let listed = lab.engine.list(&Default::default()).unwrap();
    assert_eq!(listed[0].mounts.as_ref().unwrap().len(), 1);
    assert_eq!(lab.exec(&id, &["cat", "/run/secrets/key"]).await.1, "hush");
}

async fn a_rename_reaches_the_network(lab: Lab) {
    let id = lab.start("sleep 1000", |_| {}).await;
    lab.engine.rename(&id, "other").await.unwrap();
    assert_eq!(*lab.network.renamed.lock().unwrap(), ["other"]);
}

/// The managers take away places of containers that another program runs, too.
async fn a_withdrawn_place_is_left_whoever_runs_the_container(lab: Lab) {
    let others: ContainerId = "f".repeat(64).parse().unwrap();
    lab.engine.withdraw(&others, "web").await.unwrap();
    assert_eq!(*lab.network.left.lock().unwrap(), [others]);
    let own = lab.start("sleep 1000", |body| host(body).network_mode = Some("web".to_owned())).await;
    lab.engine.withdraw(&own.parse().unwrap(), "web").await.unwrap();
    assert_eq!(lab.network.left.lock().unwrap().last().unwrap().as_str(), own);
    assert!(
        !lab.engine
            .inspect(&own, false)
            .unwrap()
            .network_settings
            .unwrap()
            .networks
            .unwrap()
            .contains_key("web")
    );
}

/// As a service of many replicas comes to a node.
async fn twenty_tasks_start_at_once(lab: Lab) {
    let begin = std::time::Instant::now();
    let starts = (0..20).map(|_| lab.start("sleep 1000", |_| {}));
    let ids = futures_util::future::join_all(starts).await;
    println!("    20 created and started in {:?}", begin.elapsed());
    assert!(ids.iter().all(|id| lab.status(id) == "running"));
}
