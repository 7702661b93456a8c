//! `docker pull`, from Debian's registry and from one that misbehaves.

use std::collections::BTreeSet;

use bollard_stubs::models::ContainerCreateBody;
use tokio::sync::mpsc;
use weft_engine::{EngineError, Progress, PullOptions, RegistryAuth, RemoveOptions};
use weft_types::{Classified as _, ErrorKind};

use crate::Test;
use crate::registry::{DebianRegistry, FakeRegistry, Knobs, SampleImage, digest, index_of};
use crate::support::{Lab, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("a_pulled_image_runs_and_keeps_its_digest", || run(a_pulled_image_runs)),
    ("pull_by_digest_needs_no_tag", || run(pull_by_digest)),
    ("of_a_manifest_list_the_own_platform_is_pulled", || run(of_a_list_the_own_platform)),
    ("a_protected_registry_wants_the_password", || run(a_protected_registry)),
    ("what_a_registry_does_not_have_is_an_error", || run(what_is_not_there)),
    ("tokens_are_fetched_and_their_refusal_is_told", || run(tokens)),
    ("a_damaged_layer_is_refused_and_leaves_nothing", || run(a_damaged_layer)),
    ("an_interrupted_download_goes_on", || run(an_interrupted_download)),
    ("pulls_of_one_image_share_its_layers", || run(shared_layers)),
    ("a_pull_nobody_waits_for_ends", || run(a_canceled_pull)),
];

type Pulled = Result<String, EngineError>;

async fn pull(lab: &Lab, name: &str) -> (Pulled, Vec<Progress>) {
    pull_with(lab, name, PullOptions::default()).await
}

async fn pull_with(lab: &Lab, name: &str, options: PullOptions) -> (Pulled, Vec<Progress>) {
    let (sink, mut lines) = mpsc::unbounded_channel();
    let pulled = timeout(lab.engine.images().pull(name, &options, &sink)).await;
    drop(sink);
    let mut told = Vec::new();
    while let Some(line) = lines.recv().await {
        told.push(line);
    }
    (pulled, told)
}

fn refused(outcome: (Pulled, Vec<Progress>)) -> (ErrorKind, String) {
    let error = outcome.0.unwrap_err();
    (error.kind(), error.to_string())
}

/// Lines without the layers' amounts.
fn milestones(lines: &[Progress]) -> Vec<(String, String)> {
    let plain = lines.iter().filter(|line| line.progress.is_none() && line.status != "Waiting");
    plain.map(|line| (line.id.clone().unwrap_or_default(), line.status.clone())).collect()
}

async fn words_of(lab: &Lab, image: &str) -> String {
    let plain = |body: &mut ContainerCreateBody| {
        body.image = Some(image.to_owned());
        body.cmd = None;
    };
    lab.run("", plain).await.1
}

async fn a_pulled_image_runs(lab: Lab) {
    let registry = DebianRegistry::start(false).await;
    let image = SampleImage::with_words("from afar\n");
    registry.push("some/app", "v1", &image);
    let name = registry.name("some/app:v1");
    let manifest = digest(&image.manifest);
    let (pulled, lines) = pull(&lab, &name).await;
    assert_eq!(pulled.unwrap(), digest(&image.config));
    let told = milestones(&lines);
    let line = |id: &str, status: &str| (id.to_owned(), status.to_owned());
    assert_eq!(told[0], line("v1", "Pulling from some/app"));
    // The lower layer is here already: the lab's own image is the same.
    let ids: Vec<String> = image.layers.iter().map(|layer| digest(layer)[7..19].to_owned()).collect();
    assert_eq!(told[1], line(&ids[0], "Already exists"));
    assert_eq!(told[2], line(&ids[1], "Pulling fs layer"));
    assert_eq!(told[3], line(&ids[1], "Verifying Checksum"));
    assert_eq!(told[4], line(&ids[1], "Download complete"));
    assert_eq!(told[5], line(&ids[1], "Pull complete"));
    assert_eq!(told[6], line("", &format!("Digest: {manifest}")));
    assert_eq!(told[7], line("", &format!("Status: Downloaded newer image for {name}")));
    assert_eq!(words_of(&lab, &name).await, "from afar\n");

    let view = lab.engine.images().inspect(&name).unwrap();
    assert_eq!(view.repo_tags.unwrap(), std::slice::from_ref(&name));
    assert_eq!(view.repo_digests.unwrap(), [format!("{}@{manifest}", registry.name("some/app"))]);
    let told = milestones(&pull(&lab, &name).await.1);
    assert_eq!(told[2], line("", &format!("Status: Image is up to date for {name}")));

    // A new image under the tag takes the name.
    let newer = SampleImage::with_words("newer\n");
    registry.push("some/app", "v1", &newer);
    pull(&lab, &name).await.0.unwrap();
    assert_eq!(words_of(&lab, &name).await, "newer\n");
    let old = lab.engine.images().inspect(&digest(&image.config)).unwrap();
    assert_eq!((old.repo_tags.unwrap().len(), old.repo_digests.unwrap().len()), (0, 1));
}

async fn pull_by_digest(lab: Lab) {
    let registry = DebianRegistry::start(false).await;
    let image = SampleImage::with_words("by digest\n");
    registry.push("app", "v1", &image);
    let manifest = digest(&image.manifest);
    let (repository, canonical) = (registry.name("app"), format!("{}@{manifest}", registry.name("app")));
    let (pulled, lines) = pull(&lab, &format!("{repository}:v1@{manifest}")).await;
    pulled.unwrap();
    assert_eq!(milestones(&lines)[0].0, manifest);
    assert_eq!(lines.last().unwrap().status, format!("Status: Downloaded newer image for {canonical}"));
    for name in [canonical.clone(), format!("{repository}:v1@{manifest}")] {
        assert_eq!(words_of(&lab, &name).await, "by digest\n");
    }
    let images = lab.engine.images();
    assert!(images.inspect(&format!("{repository}:v1")).is_err(), "no tag was pulled");
    // With the last tag of a repository its digests go.
    for summary in lab.engine.list(&weft_engine::ListOptions { all: true, ..Default::default() }).unwrap() {
        let options = RemoveOptions { force: true, volumes: true };
        lab.engine.remove(&summary.id.unwrap(), options).await.unwrap();
    }
    pull(&lab, &format!("{repository}:v1")).await.0.unwrap();
    let gone = images.remove(&format!("{repository}:v1"), false, false).unwrap();
    let untagged: Vec<String> = gone.iter().filter_map(|item| item.untagged.clone()).collect();
    assert_eq!(untagged, [format!("{repository}:v1"), canonical.clone()]);
    assert!(images.inspect(&canonical).is_err());
    assert_eq!(gone.iter().filter(|item| item.deleted.is_some()).count(), 1);
}

async fn of_a_list_the_own_platform(lab: Lab) {
    let registry = DebianRegistry::start(false).await;
    let own = SampleImage::with_words("ours\n");
    let foreign = SampleImage::for_architecture("theirs\n", "s390x");
    registry.push("app", "own", &own);
    registry.push("app", "foreign", &foreign);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let index = index_of(&[(&foreign, "s390x"), (&own, architecture)]);
    registry.push_index("app", "v1", &index);
    let name = registry.name("app:v1");
    let (pulled, lines) = pull(&lab, &name).await;
    assert_eq!(pulled.unwrap(), digest(&own.config));
    assert!(lines.iter().any(|line| line.status == format!("Digest: {}", digest(&index))));
    assert_eq!(words_of(&lab, &name).await, "ours\n");
    let served = lab.engine.images().distribution(&name, &RegistryAuth::default()).await.unwrap();
    assert_eq!((served.digest, served.platforms.len()), (digest(&index), 2));

    let other =
        |platform: &str| PullOptions { platform: Some(platform.to_owned()), ..PullOptions::default() };
    let pulled = pull_with(&lab, &name, other("linux/s390x")).await.0;
    assert_eq!(pulled.unwrap(), digest(&foreign.config));
    assert_eq!(
        refused(pull_with(&lab, &name, other("linux/mips")).await),
        (ErrorKind::NotFound, "no matching manifest for linux/mips in the manifest list entries".to_owned())
    );
    assert_eq!(refused(pull_with(&lab, &name, other("a b")).await).0, ErrorKind::InvalidParameter);
    // An image without a list is pulled all the same, with a warning.
    let lines = pull_with(&lab, &registry.name("app:own"), other("linux/s390x")).await.1;
    assert!(lines.last().unwrap().status.starts_with("WARNING: image with reference"), "{lines:?}");
}

async fn a_protected_registry(lab: Lab) {
    let registry = DebianRegistry::start(true).await;
    registry.push("app", "v1", &SampleImage::with_words("secret\n"));
    let name = registry.name("app:v1");
    let with = |password: &str| PullOptions {
        auth: RegistryAuth {
            username: "ann".to_owned(),
            password: password.to_owned(),
            ..RegistryAuth::default()
        },
        ..PullOptions::default()
    };
    let url = format!("http://{}", registry.name("v2/app/manifests/v1"));
    assert_eq!(
        refused(pull(&lab, &name).await),
        (ErrorKind::System, format!("Head {url:?}: no basic auth credentials"))
    );
    let wrong = refused(pull_with(&lab, &name, with("wrong")).await);
    assert_eq!(wrong, (ErrorKind::System, "unauthorized: authentication required".to_owned()));
    pull_with(&lab, &name, with("secret")).await.0.unwrap();
    assert_eq!(words_of(&lab, &name).await, "secret\n");
}

async fn what_is_not_there(lab: Lab) {
    let registry = DebianRegistry::start(false).await;
    registry.push("app", "v1", &SampleImage::with_words("x"));
    for name in ["nosuch:1", "app:nosuch"] {
        let name = registry.name(name);
        let wanted = format!("manifest for {name} not found: manifest unknown: manifest unknown");
        let outcome = pull(&lab, &name).await;
        assert!(outcome.1.is_empty(), "an error of the request, not of the stream");
        assert_eq!(refused(outcome), (ErrorKind::NotFound, wanted));
    }
    let refusal = "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(refused(pull(&lab, "127.0.0.1:1/x").await), (ErrorKind::System, refusal.to_owned()));
    assert_eq!(refused(pull(&lab, "Bad/NAME").await).0, ErrorKind::InvalidParameter);
}

async fn tokens(lab: Lab) {
    let image = SampleImage::with_words("with a token\n");
    let good = FakeRegistry::start(&image, Knobs { token: Some(true), ..Knobs::default() }).await;
    pull(&lab, &good.name()).await.0.unwrap();
    assert_eq!(words_of(&lab, &good.name()).await, "with a token\n");
    let poor = FakeRegistry::start(&image, Knobs { token: Some(false), ..Knobs::default() }).await;
    let name = poor.name();
    let repository = name.strip_suffix(":1").unwrap();
    let wanted = format!(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
    );
    assert_eq!(refused(pull(&lab, &name).await), (ErrorKind::NotFound, wanted));
}

fn layers_on_disk(lab: &Lab) -> BTreeSet<String> {
    let entries = std::fs::read_dir(lab.dir.path().join("data/image/layers")).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

async fn a_damaged_layer(mut lab: Lab) {
    let image = SampleImage::with_words("damaged\n");
    let layer = digest(&image.layers[1]);
    let before = layers_on_disk(&lab);
    let knobs = Knobs { damage: Some(layer.clone()), ..Knobs::default() };
    let registry = FakeRegistry::start(&image, knobs).await;
    let wanted = format!("filesystem layer verification failed for digest {layer}");
    assert_eq!(refused(pull(&lab, &registry.name()).await), (ErrorKind::System, wanted));
    assert!(lab.engine.images().inspect(&registry.name()).is_err());
    assert_eq!(layers_on_disk(&lab), before);

    let config = digest(&image.config);
    let registry =
        FakeRegistry::start(&image, Knobs { damage: Some(config.clone()), ..Knobs::default() }).await;
    let wanted = format!("image config verification failed for digest {config}");
    assert_eq!(refused(pull(&lab, &registry.name()).await).1, wanted);

    // What a crash leaves in the middle of a pull is gone after the next start.
    let orphan = lab.dir.path().join("data/image/layers").join("a".repeat(64));
    std::fs::create_dir_all(orphan.join("diff")).unwrap();
    std::fs::write(orphan.join("size"), "1").unwrap();
    lab.engine.abandon();
    lab.reopen(false).await;
    assert_eq!(layers_on_disk(&lab), before);
}

async fn an_interrupted_download(lab: Lab) {
    let image = SampleImage::with_words("in two parts\n");
    let layer = digest(&image.layers[1]);
    let registry =
        FakeRegistry::start(&image, Knobs { interrupt: Some(layer.clone()), ..Knobs::default() }).await;
    let (pulled, lines) = pull(&lab, &registry.name()).await;
    pulled.unwrap();
    assert_eq!(registry.asked_for(&layer), 2);
    assert!(lines.iter().any(|line| line.status == "Retrying in 5 seconds"), "{lines:?}");
    assert_eq!(words_of(&lab, &registry.name()).await, "in two parts\n");
}

async fn shared_layers(lab: Lab) {
    let image = SampleImage::with_words("shared\n");
    let registry = FakeRegistry::start(&image, Knobs::default()).await;
    let name = registry.name();
    let pulls = (0..8).map(|_| pull(&lab, &name));
    let outcomes = futures_util::future::join_all(pulls).await;
    let ids: BTreeSet<String> = outcomes.into_iter().map(|(pulled, _)| pulled.unwrap()).collect();
    assert_eq!(ids, BTreeSet::from([digest(&image.config)]));
    assert_eq!(registry.asked_for(&digest(&image.layers[1])), 1);
    assert_eq!(words_of(&lab, &name).await, "shared\n");
}

async fn a_canceled_pull(lab: Lab) {
    let image = SampleImage::with_words("never mind\n");
    let layer = digest(&image.layers[1]);
    let registry =
        FakeRegistry::start(&image, Knobs { interrupt: Some(layer.clone()), ..Knobs::default() }).await;
    let (sink, mut lines) = mpsc::unbounded_channel();
    let options = PullOptions::default();
    let (images, name) = (lab.engine.images(), registry.name());
    tokio::select! {
        _ = images.pull(&name, &options, &sink) => panic!("it waits for its second attempt"),
        () = async { while !lines.recv().await.unwrap().status.starts_with("Retrying") {} } => {}
    }
    let tmp = lab.dir.path().join("data/image/tmp");
    crate::support::eventually(|| (std::fs::read_dir(&tmp).unwrap().count() == 0).then_some(())).await;
    pull(&lab, &name).await.0.unwrap();
}
