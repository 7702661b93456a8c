//! `docker push` and `docker login`, to Debian's registry and to one that misbehaves.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use weft_engine::{EngineError, Progress, PullOptions, RegistryAuth};
use weft_types::{Classified as _, ErrorKind};

use crate::Test;
use crate::registry::{DebianRegistry, FakeRegistry, Knobs, SampleImage, digest};
use crate::support::{IMAGE, Lab, body, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("a_pushed_image_comes_back_whole", || run(a_pushed_image_comes_back)),
    ("what_the_registry_has_is_not_sent", || run(what_is_there)),
    ("a_pulled_image_keeps_its_digest_when_it_is_pushed", || run(a_pulled_image)),
    ("a_push_of_what_is_not_here_is_refused", || run(what_is_not_here)),
    ("a_push_and_a_login_want_the_password", || run(a_protected_registry)),
    ("a_push_fetches_tokens_for_all_that_it_does", || run(tokens)),
    ("an_interrupted_upload_begins_again", || run(an_interrupted_upload)),
    ("a_registrys_word_for_a_layer_is_not_passed_on", || run(a_lying_registry)),
];

type Outcome = (Result<(), EngineError>, Vec<Progress>);

async fn push_with(lab: &Lab, name: &str, tag: Option<&str>, auth: RegistryAuth) -> Outcome {
    let (sink, mut lines) = mpsc::unbounded_channel();
    let pushed = timeout(lab.engine.images().push(name, tag, &auth, &sink)).await;
    drop(sink);
    let mut told = Vec::new();
    while let Some(line) = lines.recv().await {
        told.push(line);
    }
    (pushed, told)
}

/// Pushes and has to succeed; the lines without amounts.
async fn push(lab: &Lab, name: &str, tag: Option<&str>) -> Vec<String> {
    let (pushed, lines) = push_with(lab, name, tag, RegistryAuth::default()).await;
    pushed.unwrap();
    shown(&lines)
}

fn shown(lines: &[Progress]) -> Vec<String> {
    let plain = lines.iter().filter(|line| line.progress.is_none() && line.status != "Waiting");
    plain
        .map(|line| match (&line.id, &line.aux) {
            (Some(id), _) => format!("{id}: {}", line.status),
            (None, Some(aux)) => serde_json::to_string(aux).unwrap(),
            (None, None) => line.status.clone(),
        })
        .collect()
}

async fn refused(lab: &Lab, name: &str, tag: Option<&str>) -> String {
    let (pushed, lines) = push_with(lab, name, tag, RegistryAuth::default()).await;
    assert!(lines[0].status.starts_with("The push refers to repository ["), "{lines:?}");
    pushed.unwrap_err().to_string()
}

/// An image with a layer of its own above busybox, under this name.
async fn image(lab: &Lab, name: &str, words: &str) -> SampleImage {
    let sample = SampleImage::with_words(words);
    let source = FakeRegistry::start(&sample, Knobs::default()).await;
    pull(lab, &source.name()).await;
    lab.engine
        .images()
        .tag(&source.name(), name.rsplit_once(':').unwrap().0, name.rsplit_once(':').unwrap().1)
        .unwrap();
    lab.engine.images().remove(&source.name(), false, false).unwrap();
    sample
}

async fn pull(lab: &Lab, name: &str) {
    let (sink, _lines) = mpsc::unbounded_channel();
    timeout(lab.engine.images().pull(name, &PullOptions::default(), &sink)).await.unwrap();
}

async fn words_of(lab: &Lab, image: &str) -> String {
    lab.run("", |body| {
        body.image = Some(image.to_owned());
        body.cmd = None;
    })
    .await
    .1
}

async fn a_pushed_image_comes_back(lab: Lab) {
    let registry = DebianRegistry::start(false).await;
    let name = registry.name("some/app:v1");
    let changes = ["CMD [\"echo\", \"there and back\"]".to_owned()];
    let images = lab.engine.images();
    let id = images.import(body(crate::support::busybox_image()), Some(&name), None, &changes).await.unwrap();
    let layer = images.inspect(&id).unwrap().root_fs.unwrap().layers.unwrap()[0][7..19].to_owned();
    let lines = push(&lab, &name, None).await;
    let view = images.inspect(&id).unwrap();
    let canonical = view.repo_digests.unwrap().remove(0);
    let manifest = canonical.rsplit('@').next().unwrap();
    let size: u64 = serde_json::from_str::<Value>(lines.last().unwrap()).unwrap()["Size"].as_u64().unwrap();
    assert_eq!(
        lines,
        [
            format!("The push refers to repository [{}]", registry.name("some/app")),
            format!("{layer}: Preparing"),
            format!("{layer}: Pushed"),
            format!("v1: digest: {manifest} size: {size}"),
            format!(r#"{{"Tag":"v1","Digest":"{manifest}","Size":{size}}}"#),
        ]
    );
    images.remove(&name, false, false).unwrap();
    pull(&lab, &canonical).await;
    assert_eq!(images.inspect(&canonical).unwrap().id.unwrap(), id);
    assert_eq!(words_of(&lab, &canonical).await, "there and back\n");
}

async fn what_is_there(lab: Lab) {
    let registry = DebianRegistry::start(false).await;
    let name = registry.name("one:1");
    image(&lab, &name, "kept\n").await;
    let images = lab.engine.images();
    let told = |lines: &[String], what: &str| lines.iter().filter(|line| line.ends_with(what)).count();
    // What other registries call a layer helps nothing here.
    assert_eq!(told(&push(&lab, &name, None).await, ": Pushed"), 2);
    assert_eq!(told(&push(&lab, &name, None).await, ": Layer already exists"), 2);
    images.tag(&name, &registry.name("two"), "1").unwrap();
    assert_eq!(told(&push(&lab, &registry.name("two"), Some("1")).await, ": Mounted from one"), 2);
    // All tags of a repository; nothing of another one.
    images.tag(&name, &registry.name("two"), "2").unwrap();
    let lines = push(&lab, &registry.name("two"), None).await;
    assert_eq!((told(&lines, ": Layer already exists"), lines.len()), (4, 1 + 2 * (2 + 2 + 2)));
    assert_eq!(lines.iter().filter(|line| line.starts_with('{')).count(), 2);
    // A layer that came without a registry's word for it is known by its content.
    let other = registry.name("three:1");
    image(&lab, &other, "other\n").await;
    let lines = push(&lab, &other, None).await;
    assert_eq!(
        (told(&lines, ": Mounted from two") + told(&lines, ": Mounted from one"), told(&lines, ": Pushed")),
        (1, 1)
    );
}

async fn a_pulled_image(lab: Lab) {
    let registry = DebianRegistry::start(false).await;
    let sample = SampleImage::with_words("same\n");
    registry.push("app", "v1", &sample);
    let before: Value = serde_json::from_slice(&sample.manifest).unwrap();
    pull(&lab, &registry.name("app:v1")).await;
    let images = lab.engine.images();
    images.tag(&registry.name("app:v1"), &registry.name("copy"), "v1").unwrap();
    push(&lab, &registry.name("copy"), Some("v1")).await;
    let fetched = registry.manifest("copy", "v1");
    let after: Value = serde_json::from_slice(&fetched).unwrap();
    // The upper layer is the blob that came; the lower one was here before, so nobody knows what the registry has.
    assert_eq!(after["layers"][1], before["layers"][1]);
    assert_eq!(after["config"], before["config"]);
}

async fn what_is_not_here(lab: Lab) {
    let images = lab.engine.images();
    let wanted = "An image does not exist locally with the tag: 127.0.0.1:1/nosuch";
    assert_eq!(refused(&lab, "127.0.0.1:1/nosuch", Some("1")).await, wanted);
    images.tag(IMAGE, "127.0.0.1:1/app", "v1").unwrap();
    assert_eq!(refused(&lab, "127.0.0.1:1/app", Some("v2")).await, "tag does not exist: 127.0.0.1:1/app:v2");
    let by_digest = format!("127.0.0.1:1/app@sha256:{}", "0".repeat(64));
    assert_eq!(refused(&lab, &by_digest, None).await, "cannot push a digest reference");
    let wanted = "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!(refused(&lab, "127.0.0.1:1/app:v1", None).await, wanted);
    let (pushed, lines) = push_with(&lab, "BAD", None, RegistryAuth::default()).await;
    assert_eq!((pushed.unwrap_err().kind(), lines.len()), (ErrorKind::InvalidParameter, 0));
}

fn ann(server: &str, password: &str) -> RegistryAuth {
    RegistryAuth {
        username: "ann".to_owned(),
        password: password.to_owned(),
        server_address: server.to_owned(),
        ..RegistryAuth::default()
    }
}

async fn a_protected_registry(lab: Lab) {
    let registry = DebianRegistry::start(true).await;
    let images = lab.engine.images();
    images.tag(IMAGE, &registry.name("app"), "v1").unwrap();
    let name = registry.name("app:v1");
    assert_eq!(refused(&lab, &name, None).await, "no basic auth credentials");
    let server = registry.name("");
    let server = server.trim_end_matches('/');
    let (pushed, _) = push_with(&lab, &name, None, ann(server, "wrong")).await;
    assert_eq!(pushed.unwrap_err().to_string(), "unauthorized: authentication required");
    push_with(&lab, &name, None, ann(server, "secret")).await.0.unwrap();

    assert_eq!(images.login(&ann(server, "secret")).await.unwrap(), "");
    assert_eq!(images.login(&ann(&format!("http://{server}/v2/"), "secret")).await.unwrap(), "");
    let error = images.login(&ann(server, "wrong")).await.unwrap_err();
    let wanted = format!("login attempt to http://{server}/v2/ failed with status: 401 Unauthorized");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::System, wanted));
    let error = images.login(&ann("127.0.0.1:1", "x")).await.unwrap_err().to_string();
    assert_eq!(error, "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused");
}

async fn tokens(lab: Lab) {
    let empty = SampleImage::with_words("elsewhere\n");
    let registry = FakeRegistry::start(&empty, Knobs { token: Some(true), ..Knobs::default() }).await;
    let name = registry.repository("mine:1");
    image(&lab, &name, "with a token\n").await;
    push(&lab, &name, None).await;
    let manifest: Value = serde_json::from_slice(&registry.manifest("1").unwrap()).unwrap();
    let blobs = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
    for blob in blobs {
        assert!(registry.has(blob["digest"].as_str().unwrap()), "{blob}");
    }
    let queries = registry.token_queries();
    assert_eq!(queries.len(), 1, "one token for all: {queries:?}");
    assert!(queries[0].contains("scope=repository%3Amine%3Apull%2Cpush"), "{queries:?}");
    lab.engine.images().tag(&name, &registry.repository("second"), "1").unwrap();
    push(&lab, &registry.repository("second:1"), None).await;
    let has_both = |query: &String| {
        query.contains("scope=repository%3Asecond%3Apull%2Cpush")
            && query.contains("scope=repository%3Amine%3Apull")
    };
    assert!(registry.token_queries().iter().all(|q| !q.contains("offline_token")));
    // The blobs are there, whatever the repository: nothing had to be taken over.
    assert!(!registry.token_queries().iter().any(has_both));

    assert_eq!(lab.engine.images().login(&ann(&registry.repository(""), "x")).await.unwrap(), "");
    let asked = registry.token_queries().pop().unwrap();
    assert!(asked.contains("account=ann") && asked.contains("offline_token=true"), "{asked}");

    let poor = FakeRegistry::start(&empty, Knobs { token: Some(false), ..Knobs::default() }).await;
    lab.engine.images().tag(&name, &poor.repository("mine"), "1").unwrap();
    let wanted = "denied: requested access to the resource is denied";
    assert_eq!(refused(&lab, &poor.repository("mine:1"), None).await, wanted);
}

async fn an_interrupted_upload(lab: Lab) {
    let other = SampleImage::with_words("elsewhere\n");
    let registry = FakeRegistry::start(&other, Knobs { drop_upload: true, ..Knobs::default() }).await;
    let name = registry.repository("mine:1");
    lab.engine.images().tag(IMAGE, &registry.repository("mine"), "1").unwrap();
    let lines = push(&lab, &name, None).await;
    assert!(lines.iter().any(|line| line.ends_with(": Retrying in 5 seconds")), "{lines:?}");
    let manifest: Value = serde_json::from_slice(&registry.manifest("1").unwrap()).unwrap();
    assert!(registry.has(manifest["layers"][0]["digest"].as_str().unwrap()));
}

/// A manifest may call any blob a layer that is here already. Nobody fetches that blob, so nobody sees the lie; an
/// image that is pushed from here must not repeat it.
async fn a_lying_registry(lab: Lab) {
    let good = SampleImage::with_words("good\n");
    let honest = FakeRegistry::start(&good, Knobs::default()).await;
    pull(&lab, &honest.name()).await;
    let evil = b"not the layer at all".to_vec();
    let mut lie = good.clone();
    let mut manifest: Value = serde_json::from_slice(&good.manifest).unwrap();
    manifest["layers"][1]["digest"] = json!(digest(&evil));
    manifest["layers"][1]["size"] = json!(evil.len());
    (lie.manifest, lie.layers[1]) = (serde_json::to_vec(&manifest).unwrap(), evil.clone());
    let liar = FakeRegistry::start(&lie, Knobs::default()).await;
    pull(&lab, &liar.name()).await;
    lab.engine.images().tag(&liar.name(), &liar.repository("mine"), "2").unwrap();
    push(&lab, &liar.repository("mine:2"), None).await;
    let pushed: Value = serde_json::from_slice(&liar.manifest("2").unwrap()).unwrap();
    let layers: BTreeMap<String, bool> = pushed["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .map(|blob| (blob.clone(), blob != digest(&evil) && liar.has(&blob)))
        .collect();
    assert!(layers.values().all(|honest| *honest), "{layers:?}");
}
