//! Import, load, save, names and removal.

use std::io::Write;

use futures_util::StreamExt;
use weft_engine::{Images, RemoveOptions};
use weft_types::{Classified, ErrorKind};

use crate::Test;
use crate::support::{IMAGE, Lab, body, busybox_image, run};

pub(crate) const TESTS: &[Test] = &[
    ("import_makes_an_image", || run(import_makes_an_image)),
    ("save_and_load_keep_the_id", || run(save_and_load_keep_the_id)),
    ("compressed_archives_are_understood", || run(compressed_archives)),
    ("oci_layouts_are_loaded_with_whiteouts", || run(oci_layouts)),
    ("bad_archives_are_refused", || run(bad_archives_are_refused)),
    ("removal_follows_dockers_rules", || run(removal_follows_dockers_rules)),
    ("a_container_outlives_its_image", || run(a_container_outlives_its_image)),
    ("images_survive_a_restart", || run(images_survive_a_restart)),
];

async fn import_makes_an_image(lab: Lab) {
    let changes = ["CMD [\"echo\", \"from cmd\"]", "ENV A=b", "LABEL l=1"].map(str::to_owned);
    let id = lab
        .engine
        .images()
        .import(body(busybox_image()), Some("mine"), Some("made by hand"), &changes)
        .await
        .unwrap();
    let view = lab.engine.images().inspect("mine").unwrap();
    assert_eq!(view.id.as_deref(), Some(id.as_str()));
    assert_eq!(view.repo_tags.unwrap(), ["mine:latest"]);
    assert_eq!(view.comment.as_deref(), Some("made by hand"));
    assert!(view.size.unwrap() > 100_000);
    let (_, out, _) = lab
        .run("", |body| {
            body.image = Some("mine".into());
            body.cmd = None;
        })
        .await;
    assert_eq!(out, "from cmd\n");
    let history = lab.engine.images().history("mine").unwrap();
    assert_eq!((history.len(), history[0].comment.as_str()), (1, "made by hand"));
    let error =
        lab.engine.images().import(body(busybox_image()), None, None, &["BOGUS x".into()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    for name in [&id, &id[7..], &id[7..19]] {
        assert_eq!(lab.engine.images().inspect(name).unwrap().id.as_deref(), Some(id.as_str()));
    }
}

async fn saved(images: &Images, name: &str) -> Vec<u8> {
    let mut stream = images.save(&[name.to_owned()]).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    bytes
}

async fn save_and_load_keep_the_id(lab: Lab) {
    let images = lab.engine.images();
    let id = images.inspect(IMAGE).unwrap().id.unwrap();
    let archive = saved(images, IMAGE).await;
    images.remove(IMAGE, false, false).unwrap();
    assert_eq!(images.load(body(archive), None).await.unwrap(), [format!("Loaded image: {IMAGE}")]);
    assert_eq!(images.inspect(IMAGE).unwrap().id.unwrap(), id);
    assert_eq!(lab.run("echo works", |_| {}).await.1, "works\n");
    let error = images.save(&["nosuch".to_owned()]).await.err().unwrap();
    assert_eq!(error.to_string(), "No such image: nosuch");
}

async fn compressed_archives(lab: Lab) {
    let images = lab.engine.images();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&busybox_image()).unwrap();
    images.import(body(gzip.finish().unwrap()), Some("gz"), None, &[]).await.unwrap();
    let zstd = zstd::encode_all(&busybox_image()[..], 1).unwrap();
    images.import(body(zstd), Some("zst"), None, &[]).await.unwrap();
    let layers = |name: &str| images.inspect(name).unwrap().root_fs.unwrap().layers.unwrap();
    assert_eq!(layers("gz"), layers(IMAGE));
    assert_eq!(layers("zst"), layers(IMAGE));
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An OCI layout of the busybox layer, gzipped, and one that removes and replaces files of it.
async fn oci_layouts(lab: Lab) {
    let lower = busybox_image();
    let upper = tar_of(&[("etc/.wh.plain", b""), ("data/.wh..wh..opq", b""), ("data/second", b"new\n")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&lower).unwrap();
    let blobs = [gzip.finish().unwrap(), zstd::encode_all(&upper[..], 1).unwrap()];
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&lower)), format!("sha256:{}", sha256(&upper))]},
    })
    .to_string();
    let descriptor = |bytes: &[u8]| serde_json::json!({"mediaType": "x", "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": descriptor(config.as_bytes()), "layers": [descriptor(&blobs[0]), descriptor(&blobs[1])],
    })
    .to_string();
    let mut entry = descriptor(manifest.as_bytes());
    entry["annotations"] = serde_json::json!({"io.containerd.image.name": "docker.io/library/two:v1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let parts: Vec<(String, &[u8])> =
        [blobs[0].as_slice(), &blobs[1], config.as_bytes(), manifest.as_bytes()]
            .into_iter()
            .map(|bytes| (format!("blobs/sha256/{}", sha256(bytes)), bytes))
            .chain([("index.json".to_owned(), index.as_bytes())])
            .collect();
    let files: Vec<(&str, &[u8])> = parts.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let lines = lab.engine.images().load(body(tar_of(&files)), None).await.unwrap();
    assert_eq!(lines, ["Loaded image: two:v1"]);
    let (_, out, _) = lab
        .run("ls /etc/plain 2>/dev/null; ls /data; cat /data/second; ls /etc/passwd", |body| {
            body.image = Some("two:v1".into());
        })
        .await;
    assert_eq!(out, "second\nnew\n/etc/passwd\n");
}

async fn bad_archives_are_refused(lab: Lab) {
    let images = lab.engine.images();
    let load = async |bytes: Vec<u8>| images.load(body(bytes), None).await.unwrap_err().to_string();
    assert_eq!(load(vec![b'x'; 2048]).await, "archive/tar: invalid tar header");
    assert_eq!(load(busybox_image()).await, "open manifest.json: no such file or directory");
    let manifest = br#"[{"Config":"../../../etc/passwd","RepoTags":["evil:1"],"Layers":[]}]"#;
    assert!(load(tar_of(&[("manifest.json", manifest)])).await.starts_with("open ../../../etc/passwd"));
    let whole = saved(images, IMAGE).await;
    assert_eq!(load(whole[..whole.len() / 2].to_vec()).await, "unexpected EOF");
    let cut = busybox_image();
    let error = images.import(body(cut[..cut.len() / 2].to_vec()), Some("x:1"), None, &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::System, "unexpected EOF"));
    // A layer that is not what its configuration says.
    let config = serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]}}).to_string();
    let manifest = br#"[{"Config":"c","Layers":["l"]}]"#;
    let layer = tar_of(&[("f", b"data")]);
    let error = load(tar_of(&[("manifest.json", manifest), ("c", config.as_bytes()), ("l", &layer)])).await;
    assert!(error.contains("layer does not match its digest"), "{error}");
    let tmp = lab.dir.path().join("data/image/tmp");
    assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0);
    assert_eq!(images.list(true, &Default::default()).unwrap().len(), 1);
}

async fn removal_follows_dockers_rules(lab: Lab) {
    let images = lab.engine.images();
    images.tag(IMAGE, "other/name", "v2").unwrap();
    let id = images.inspect(IMAGE).unwrap().id.unwrap();
    let items = images.remove("other/name:v2", false, false).unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].untagged.as_deref(), Some("other/name:v2"));
    let container = lab.create("true", |_| {}).await;
    let short = &id[7..19];
    assert_eq!(
        images.remove(IMAGE, false, false).unwrap_err().to_string(),
        format!(
            "conflict: unable to remove repository reference \"{IMAGE}\" (must force) - container {} is using its referenced image {short}",
            &container[..12]
        )
    );
    assert_eq!(
        images.remove(&id, false, false).unwrap_err().to_string(),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {}",
            &container[..12]
        )
    );
    let items = images.remove(IMAGE, true, false).unwrap();
    assert_eq!((items.len(), items[1].deleted.as_deref()), (2, Some(id.as_str())));
    assert_eq!(images.inspect(IMAGE).unwrap_err().to_string(), format!("No such image: {IMAGE}"));
    // The container still has its layers, and takes them along.
    lab.engine.start(&container).await.unwrap();
    assert_eq!(
        lab.engine.list(&weft_engine::ListOptions { all: true, ..Default::default() }).unwrap()[0]
            .image
            .as_deref(),
        Some(id.as_str())
    );
    lab.engine.remove(&container, RemoveOptions { force: true, volumes: false }).await.unwrap();
    assert_eq!(std::fs::read_dir(lab.dir.path().join("data/image/layers")).unwrap().count(), 0);
    assert_eq!(
        images.remove("nosuch", false, false).unwrap_err().to_string(),
        "No such image: nosuch:latest"
    );
    assert_eq!(images.tag("nosuch", "x", "1").unwrap_err().to_string(), "No such image: nosuch:latest");
}

async fn a_container_outlives_its_image(mut lab: Lab) {
    let id = lab.engine.images().inspect(IMAGE).unwrap().id.unwrap();
    let container = lab.create("sleep 1000", |_| {}).await;
    lab.engine.images().remove(&id, true, false).unwrap();
    assert_eq!(lab.engine.images().count(), 0);
    let layers = |lab: &Lab| std::fs::read_dir(lab.dir.path().join("data/image/layers")).unwrap().count();
    for _ in 0..2 {
        lab.engine.start(&container).await.unwrap();
        assert_eq!(layers(&lab), 1);
        lab.engine.shutdown().await;
        lab.reopen(false).await;
    }
    lab.engine.remove(&container, RemoveOptions { force: true, volumes: false }).await.unwrap();
    lab.engine.shutdown().await;
    lab.reopen(false).await;
    assert_eq!(layers(&lab), 0);
}

async fn images_survive_a_restart(mut lab: Lab) {
    lab.engine.images().tag(IMAGE, "kept", "").unwrap();
    let before = lab.engine.images().list(false, &Default::default()).unwrap();
    // What a crash leaves half-made is swept away.
    let junk = lab.dir.path().join("data/image/tmp/junk");
    std::fs::create_dir(&junk).unwrap();
    lab.engine.shutdown().await;
    lab.reopen(false).await;
    assert!(!junk.exists());
    assert_eq!(lab.engine.images().list(false, &Default::default()).unwrap(), before);
    assert_eq!(lab.run("echo ok", |body| body.image = Some("kept".into())).await.1, "ok\n");
}
