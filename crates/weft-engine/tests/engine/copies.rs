//! Copying files from and to containers, running and stopped.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use futures_util::StreamExt;
use weft_engine::{ByteStream, ExtractOptions, RemoveOptions};
use weft_types::{Classified, ErrorKind};

use crate::Test;
use crate::support::{IMAGE, Lab, body, host, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("copies_come_out_and_go_in", || run(come_out_and_go_in)),
    ("copies_see_volumes_of_running_and_stopped_containers", || run(see_volumes)),
    ("copies_never_lead_out_of_the_container", || run(never_lead_out)),
    ("copies_are_refused_in_dockers_words", || run(refused_in_dockers_words)),
    ("copies_hold_against_a_container_that_changes_links", || run(against_changing_links)),
    ("a_container_starts_after_a_copy_that_nobody_reads", || run(starts_after_an_abandoned_copy)),
    ("a_copy_holds_no_mounts_but_its_own", || run(holds_no_mounts_but_its_own)),
    ("starts_and_removals_wait_for_no_reader", || run(wait_for_no_reader)),
    ("an_export_has_the_tree_without_volumes", || run(export_without_volumes)),
    ("an_export_of_a_damaged_image_says_so", || run(export_of_a_damaged_image)),
];

/// Names and contents of an archive.
async fn files(stream: ByteStream) -> BTreeMap<String, String> {
    let bytes = read(stream).await;
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        (name, String::from_utf8_lossy(&text).into_owned())
    });
    entries.collect()
}

async fn read(mut stream: ByteStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(async {
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
    })
    .await;
    bytes
}

/// An archive of one file of user 7 and group 8.
fn archive(name: &str, content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_000_000);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

async fn put(
    lab: &Lab,
    id: &str,
    path: &str,
    name: &str,
    content: &str,
) -> Result<(), weft_engine::EngineError> {
    lab.engine.extract(id, path, ExtractOptions::default(), body(archive(name, content))).await
}

async fn come_out_and_go_in(lab: Lab) {
    let id = lab.start("mkdir /made; echo one > /made/one; ln -s made /link; sleep 1000", |_| {}).await;
    while lab.engine.path_stat(&id, "/link").await.is_err() {}
    put(&lab, &id, "/tmp", "in", "hello").await.unwrap();
    let (_, out, _) = lab.exec(&id, &["stat", "-c", "%a %u %g %Y", "/tmp/in"]).await;
    assert_eq!(out, "640 7 8 1000000\n", "owner, mode and time are the archive's");
    let stat = lab.engine.path_stat(&id, "/tmp/in").await.unwrap();
    assert_eq!((stat.name.as_str(), stat.size, stat.mode), ("in", 5, 0o640));
    assert_eq!((stat.mtime.as_str(), stat.link_target.as_str()), ("1970-01-12T13:46:40Z", ""));
    let link = lab.engine.path_stat(&id, "/link").await.unwrap();
    assert_eq!((link.mode, link.link_target.as_str()), (1 << 27 | 0o777, "/made"));

    let out = async |path: &str| files(lab.engine.archive(&id, path).await.unwrap().1).await;
    let names = |files: BTreeMap<String, String>| files.into_keys().collect::<Vec<_>>();
    assert_eq!(out("/made/one").await, [("one".to_owned(), "one\n".to_owned())].into());
    assert_eq!(names(out("/made").await), ["made/", "made/one"]);
    assert_eq!(names(out("/link").await), ["link"], "a link itself");
    assert_eq!(names(out("/link/").await), ["link/", "link/one"], "what it leads to, under the link's name");
    assert_eq!(names(out("/link/.").await), ["./", "./one"]);
    // Into what a link leads to; and a stopped container's files are the same.
    put(&lab, &id, "/link", "two", "two").await.unwrap();
    lab.engine.kill(&id, None).await.unwrap();
    put(&lab, &id, "/made", "three", "three").await.unwrap();
    assert_eq!(names(out("/made").await), ["made/", "made/one", "made/three", "made/two"]);
    // The container's own user, where that is asked for.
    let id = lab.create("true", |body| body.user = Some("web".into())).await;
    let own = ExtractOptions { copy_uid_gid: true, ..ExtractOptions::default() };
    lab.engine.extract(&id, "/tmp", own, body(archive("in", ""))).await.unwrap();
    let bytes = read(lab.engine.archive(&id, "/tmp/in").await.unwrap().1).await;
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (1000, 1001));
}

async fn see_volumes(lab: Lab) {
    let source = lab.dir.path().join("bound");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("b"), "bound").unwrap();
    let bind = format!("{}:/bound", source.display());
    let id =
        lab.create("sleep 1000", |body| host(body).binds = Some(vec!["vol:/data".to_owned(), bind])).await;
    let out = async |path: &str| files(lab.engine.archive(&id, path).await.unwrap().1).await;
    // Before its first start: the volume has what the image has there, as with Docker.
    assert_eq!(out("/data/first").await["first"], "from the image\n");
    put(&lab, &id, "/data", "second", "2").await.unwrap();
    put(&lab, &id, "/bound", "c", "3").await.unwrap();
    assert_eq!(std::fs::read_to_string(source.join("c")).unwrap(), "3");
    lab.engine.start(&id).await.unwrap();
    let (_, text, _) = lab.exec(&id, &["cat", "/data/first", "/data/second", "/bound/b", "/bound/c"]).await;
    assert_eq!(text, "from the image\n2bound3");
    lab.exec(&id, &["sh", "-c", "echo 4 > /data/fourth"]).await;
    assert_eq!(out("/data/fourth").await["fourth"], "4\n");
    assert!(out("/etc/hosts").await["hosts"].contains("localhost"));
    assert!(out("/bound").await.contains_key("bound/c"));
    lab.engine.kill(&id, None).await.unwrap();
    assert_eq!(out("/data/fourth").await["fourth"], "4\n");
    let volume = lab.engine.volumes().get("vol").unwrap().mountpoint;
    assert_eq!(std::fs::read_to_string(volume.join("second")).unwrap(), "2");
}

async fn never_lead_out(lab: Lab) {
    let secret = lab.dir.path().join("secret");
    std::fs::write(&secret, "the host's").unwrap();
    let script = format!(
        "ln -s {secret} /plain; ln -s ../../../../..{secret} /up; ln -s {dir} /dir; ln -s /proc/1/root /magic",
        secret = secret.display(),
        dir = lab.dir.path().display()
    );
    let id = lab.create(&script, |_| {}).await;
    let end = lab.engine.wait(&id, weft_engine::WaitCondition::NextExit).unwrap();
    lab.engine.start(&id).await.unwrap();
    timeout(end).await;
    let hidden = format!("/dir/{}", secret.file_name().unwrap().to_str().unwrap());
    for path in ["/plain/", "/up/", hidden.as_str(), "/magic/etc/passwd", "/dir/"] {
        let error = lab.engine.archive(&id, path).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{path}: {error}");
    }
    assert_eq!(put(&lab, &id, "/dir", "new", "x").await.unwrap_err().kind(), ErrorKind::NotFound);
    // A link that an archive brings itself, and a way through it.
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "way", lab.dir.path()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    tar.append_data(&mut header, "way/new", b"x".as_slice()).unwrap();
    let bytes = tar.into_inner().unwrap();
    let _ = lab.engine.extract(&id, "/tmp", ExtractOptions::default(), body(bytes)).await;
    assert!(!lab.dir.path().join("new").exists());
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "the host's");
}

async fn refused_in_dockers_words(lab: Lab) {
    let fixed = lab.dir.path().join("fixed");
    std::fs::create_dir(&fixed).unwrap();
    let bind = format!("{}:/fixed:ro", fixed.display());
    let id = lab
        .create("true", |body| {
            host(body).binds = Some(vec![bind, "vol:/data".to_owned()]);
            host(body).readonly_rootfs = Some(true);
        })
        .await;
    let words = async |path: &str, name: &str| {
        let keep = ExtractOptions { no_overwrite_dir_non_dir: true, ..ExtractOptions::default() };
        let error = lab.engine.extract(&id, path, keep, body(archive(name, "x"))).await.unwrap_err();
        (error.kind(), error.to_string())
    };
    let invalid = |text: &str| (ErrorKind::InvalidParameter, text.to_owned());
    assert_eq!(words("/fixed", "x").await, invalid("mounted volume is marked read-only"));
    assert_eq!(words("/tmp", "x").await, invalid("container rootfs is marked read-only"));
    assert_eq!(words("/etc/passwd", "x").await, invalid("extraction point is not a directory"));
    let missing = format!("Could not find the file /nosuch in container {id}");
    assert_eq!(words("/nosuch", "x").await, (ErrorKind::NotFound, missing.clone()));
    assert_eq!(lab.engine.path_stat(&id, "/nosuch").await.unwrap_err().to_string(), missing);
    let error = lab.engine.path_stat(&id, "/etc/passwd/").await.unwrap_err();
    assert_eq!(error.to_string(), "lstat /etc/passwd/: not a directory");
    put(&lab, &id, "/data", "dir/file", "x").await.unwrap();
    assert_eq!(
        words("/data", "dir").await.1,
        "cannot overwrite directory \"/data/dir\" with non-directory \"/data\""
    );
    put(&lab, &id, "/data", "dir", "now a file").await.unwrap();
    assert!(lab.engine.path_stat("nosuch", "/x").await.is_err());
}

/// The container turns a directory into a link to the host's path and back as fast as it can, and what is copied into it
/// into a link to the host's file.
async fn against_changing_links(lab: Lab) {
    let host_dir = lab.dir.path().join("host");
    std::fs::create_dir(&host_dir).unwrap();
    let secret = host_dir.join("secret");
    std::fs::write(&secret, "the host's").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o604)).unwrap();
    let script = format!(
        "mkdir -p {dir} /a/turn; echo mine > {dir}/secret; \
         (while :; do ln -sf {dir}/secret /a/turn/new; done) & \
         while :; do mv /a/turn /a/t1; ln -s {dir} /a/turn; rm /a/turn; mv /a/t1 /a/turn; done",
        dir = host_dir.display()
    );
    let id = lab.start(&script, |_| {}).await;
    while lab.engine.path_stat(&id, "/a/turn").await.is_err() {}
    for _ in 0..100 {
        let _ = put(&lab, &id, "/a/turn", "new", "x").await;
        let Ok((_, mut stream)) = lab.engine.archive(&id, "/a/turn/").await else { continue };
        // It may break off where the directory has gone meanwhile.
        while let Some(Ok(chunk)) = timeout(stream.next()).await {
            assert!(!String::from_utf8_lossy(&chunk).contains("the host's"));
        }
    }
    let names: Vec<_> =
        std::fs::read_dir(&host_dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"]);
    let now = secret.metadata().unwrap();
    assert_eq!((now.mode() & 0o777, now.uid()), (0o604, 0));
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "the host's");
}

async fn starts_after_an_abandoned_copy(lab: Lab) {
    let id = lab.create("sleep 1000", |_| {}).await;
    let (_, stream) = lab.engine.archive(&id, "/bin").await.unwrap();
    drop(stream);
    timeout(lab.engine.start(&id)).await.unwrap();
    let (_, out, _) = lab.exec(&id, &["echo", "runs"]).await;
    assert_eq!(out, "runs\n");
}

async fn export_without_volumes(lab: Lab) {
    let bind = vec!["vol:/data".to_owned()];
    let id = lab
        .start("echo new > /tmp/new; rm /etc/plain; sleep 1000", |body| host(body).binds = Some(bind))
        .await;
    while lab.engine.path_stat(&id, "/etc/plain").await.is_ok() {}
    let exported = files(lab.engine.export(&id).await.unwrap()).await;
    assert_eq!(exported["tmp/new"], "new\n");
    assert!(exported.contains_key("bin/busybox") && !exported.contains_key("etc/plain"));
    // What the image has below the volume, not the volume.
    assert_eq!(exported["data/first"], "from the image\n");
    put(&lab, &id, "/data", "in-volume", "x").await.unwrap();
    assert!(!files(lab.engine.export(&id).await.unwrap()).await.contains_key("data/in-volume"));
    let events = lab.engine.list(&weft_engine::ListOptions::default()).unwrap();
    assert_eq!(events.len(), 1, "and the container runs on");
}

async fn export_of_a_damaged_image(lab: Lab) {
    let id = lab.create("true", |_| {}).await;
    let layers = lab.engine.images().inspect(IMAGE).unwrap().graph_driver.unwrap().data;
    std::fs::remove_dir_all(&layers["UpperDir"]).unwrap();
    for error in [lab.engine.export(&id).await.err(), lab.engine.archive(&id, "/etc").await.err()] {
        let text = error.unwrap().to_string();
        assert!(text.starts_with("mount ") && text.contains("No such file"), "{text}");
    }
}

/// Clients that have stopped reading and sending.
async fn wait_for_no_reader(lab: Lab) {
    let id = lab.create("sleep 1000", |_| {}).await;
    let broken_off = async |mut stream: ByteStream| {
        let mut last = None;
        while let Some(chunk) = timeout(stream.next()).await {
            last = Some(chunk);
        }
        assert_eq!(last.unwrap().unwrap_err().to_string(), "the container is being started or removed");
    };
    let stream = lab.engine.export(&id).await.unwrap();
    timeout(lab.engine.start(&id)).await.unwrap();
    broken_off(stream).await;
    lab.engine.kill(&id, None).await.unwrap();
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let mut begin = Some(begin);
    let silent = futures_util::stream::poll_fn(move |_| {
        drop(begin.take());
        std::task::Poll::Pending
    });
    let (engine, own) = (lab.engine.clone(), id.clone());
    let sender =
        tokio::spawn(async move { engine.extract(&own, "/tmp", ExtractOptions::default(), silent).await });
    assert!(timeout(begun).await.is_err(), "it reads what is sent");
    timeout(lab.engine.remove(&id, RemoveOptions { force: false, volumes: false })).await.unwrap();
    assert!(timeout(sender).await.unwrap().is_err());
    assert_eq!(lab.engine.path_stat(&id, "/").await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn holds_no_mounts_but_its_own(lab: Lab) {
    let (id, other) = (lab.create("true", |_| {}).await, lab.start("sleep 1000", |_| {}).await);
    let stream = lab.engine.export(&id).await.unwrap();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|entry| entry.path());
    let views = threads.filter(|thread| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "weft-files")
    });
    let mounts: String =
        views.map(|view| std::fs::read_to_string(view.join("mountinfo")).unwrap_or_default()).collect();
    assert!(mounts.contains(&id) && !mounts.contains(&other) && !mounts.contains(" /sys "), "{mounts}");
    drop(stream);
}
