//! Attach, terminals, logs.

use std::time::Duration;

use bollard_stubs::models::HostConfigLogConfig;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use weft_engine::{AttachOptions, LogOptions, StopOptions};

use crate::Test;
use crate::support::{Lab, collect, eventually, host, read_until, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("stdin_is_half_closed", || run(stdin_is_half_closed)),
    ("input_without_once_stays_open", || run(input_without_once_stays_open)),
    ("a_terminal_has_a_size_and_a_name", || run(a_terminal_has_a_size_and_a_name)),
    ("many_clients_see_the_same_output", || run(many_clients_see_the_same_output)),
    ("a_slow_client_stops_only_its_container", || run(a_slow_client_stops_only_its_container)),
    ("a_large_output_arrives_whole", || run(a_large_output_arrives_whole)),
    ("logs_have_times_tails_and_streams", || run(logs_have_times_tails_and_streams)),
    ("logs_follow_through_rotation", || run(logs_follow_through_rotation)),
    ("log_driver_none_keeps_nothing", || run(log_driver_none_keeps_nothing)),
];

const ALL: AttachOptions =
    AttachOptions { stdin: true, stdout: true, stderr: true, logs: false, stream: true };

async fn stdin_is_half_closed(lab: Lab) {
    let id = lab
        .create("cat; echo end", |body| {
            body.open_stdin = Some(true);
            body.stdin_once = Some(true);
        })
        .await;
    let mut streams = lab.engine.attach(&id, ALL).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    let first = read_until(&mut streams.output, "hello\n").await;
    stdin.shutdown().await.unwrap();
    let (rest, _) = collect(streams.output).await;
    assert_eq!(first + &rest, "hello\nend\n");
}

async fn input_without_once_stays_open(lab: Lab) {
    let id = lab.start("while read line; do echo got $line; done", |body| body.open_stdin = Some(true)).await;
    for word in ["one", "two"] {
        let mut streams = lab.engine.attach(&id, ALL).await.unwrap();
        let mut stdin = streams.stdin.take().unwrap();
        stdin.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        read_until(&mut streams.output, &format!("got {word}\n")).await;
        stdin.shutdown().await.unwrap();
    }
    assert_eq!(lab.status(&id), "running");
}

async fn a_terminal_has_a_size_and_a_name(lab: Lab) {
    let script = "tty; read line; stty size; echo typed $line; test -t 2 && echo terminal; echo $TERM";
    let id = lab
        .create(script, |body| {
            body.tty = Some(true);
            body.open_stdin = Some(true);
        })
        .await;
    let mut streams = lab.engine.attach(&id, ALL).await.unwrap();
    assert!(streams.tty);
    lab.engine.start(&id).await.unwrap();
    let mut text = read_until(&mut streams.output, "/dev/").await;
    lab.engine.resize(&id, 33, 121).await.unwrap();
    streams.stdin.take().unwrap().write_all(b"abc\n").await.unwrap();
    text += &collect(streams.output).await.0;
    assert!(text.contains("33 121\r\n") && text.contains("typed abc\r\nterminal\r\nxterm\r\n"), "{text:?}");
    assert!(lab.logs(&id).await.0.contains("typed abc\r\n"));
}

async fn many_clients_see_the_same_output(lab: Lab) {
    let id = lab.create("for i in 1 2 3; do echo line $i; done", |_| {}).await;
    let options = AttachOptions { stdin: false, ..ALL };
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(lab.engine.attach(&id, options).await.unwrap());
    }
    lab.engine.start(&id).await.unwrap();
    for client in clients {
        assert_eq!(collect(client.output).await.0, "line 1\nline 2\nline 3\n");
    }
    let mut late =
        lab.engine.attach(&id, AttachOptions { logs: true, stream: false, ..options }).await.unwrap();
    assert_eq!(read_until(&mut late.output, "line 3\n").await, "line 1\nline 2\nline 3\n");
}

/// A client that reads nothing holds its container back, as with Docker, and nobody else: execs of the same container
/// and other containers go on.
async fn a_slow_client_stops_only_its_container(lab: Lab) {
    let id = lab.create("yes", |_| {}).await;
    let options = AttachOptions { stdin: false, ..ALL };
    let stalled = lab.engine.attach(&id, options).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    let size = || {
        std::fs::metadata(lab.engine.inspect(&id, false).unwrap().log_path.unwrap()).map_or(0, |m| m.len())
    };
    eventually(|| (size() > 100_000).then_some(())).await;
    let (code, out, _) = timeout(lab.exec(&id, &["echo", "still here"])).await;
    assert_eq!((code, out.as_str()), (0, "still here\n"));
    let (code, _, _) = lab.run("true", |_| {}).await;
    assert_eq!(code, 0);
    drop(stalled);
    let before = size();
    eventually(|| (size() > before + 1_000_000).then_some(())).await;
    lab.engine.kill(&id, None).await.unwrap();
}

async fn a_large_output_arrives_whole(lab: Lab) {
    let (code, out, _) = lab.run("dd if=/dev/zero bs=1k count=3000 2>/dev/null | tr '\\0' x", |_| {}).await;
    assert_eq!((code, out.len()), (0, 3000 * 1024));
}

async fn logs_have_times_tails_and_streams(lab: Lab) {
    let (_, _, _) = lab.run("echo a; echo b >&2; echo c", |_| {}).await;
    let id = lab.engine.list(&weft_engine::ListOptions { all: true, ..Default::default() }).unwrap()[0]
        .id
        .clone()
        .unwrap();
    let get = async |options: LogOptions| collect(lab.engine.logs(&id, options).await.unwrap().output).await;
    let both = LogOptions { stdout: true, stderr: true, ..LogOptions::default() };
    assert_eq!(get(both.clone()).await, ("a\nc\n".to_owned(), "b\n".to_owned()));
    assert_eq!(get(LogOptions { stderr: false, ..both.clone() }).await.1, "");
    assert_eq!(get(LogOptions { tail: Some(1), stderr: false, ..both.clone() }).await.0, "c\n");
    assert_eq!(get(LogOptions { tail: Some(0), ..both.clone() }).await.0, "");
    let (out, _) = get(LogOptions { timestamps: true, ..both.clone() }).await;
    let first = out.lines().next().unwrap();
    assert!(first.ends_with("Z a") && first.len() == "2026-11-21T04:26:00.123456789Z a".len(), "{first}");
    assert_eq!(get(LogOptions { since: Some((i64::MAX, 0)), ..both.clone() }).await.0, "");
    assert_eq!(get(LogOptions { until: Some((1, 0)), ..both }).await.0, "");
    let error = lab.engine.logs(&id, LogOptions::default()).await.err().unwrap();
    assert_eq!(error.to_string(), "Bad parameters: you must choose at least one stream");
}

async fn logs_follow_through_rotation(lab: Lab) {
    let id = lab
        .create("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done", |body| {
            let options =
                [("max-size".to_owned(), "2k".to_owned()), ("max-file".to_owned(), "100".to_owned())];
            host(body).log_config =
                Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(options.into()) });
        })
        .await;
    lab.engine.start(&id).await.unwrap();
    let options = LogOptions { stdout: true, stderr: true, follow: true, ..LogOptions::default() };
    let (out, _) = collect(lab.engine.logs(&id, options).await.unwrap().output).await;
    let expected: String = (0..300).map(|number| format!("line {number}\n")).collect();
    assert_eq!(out, expected);
    let dir = lab.dir.path().join("data/containers").join(&id);
    let files = std::fs::read_dir(dir).unwrap().flatten();
    assert!(files.filter(|file| file.file_name().to_string_lossy().contains("-json.log")).count() > 3);
    assert_eq!(lab.logs(&id).await.0, expected);
    // Following a container that writes nothing ends with it.
    let quiet = lab.start("exec sleep 1000", |_| {}).await;
    let options = LogOptions { stdout: true, follow: true, ..LogOptions::default() };
    let mut stream = lab.engine.logs(&quiet, options).await.unwrap().output;
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.next()).await.is_err());
    lab.engine.stop(&quiet, StopOptions { timeout: Some(0), signal: None }).await.unwrap();
    assert!(timeout(stream.next()).await.is_none());
}

async fn log_driver_none_keeps_nothing(lab: Lab) {
    let id = lab
        .create("echo x", |body| {
            host(body).log_config = Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None });
        })
        .await;
    let streams = lab.engine.attach(&id, AttachOptions { stdin: false, ..ALL }).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    assert_eq!(collect(streams.output).await.0, "x\n");
    let options = LogOptions { stdout: true, ..LogOptions::default() };
    let error = lab.engine.logs(&id, options).await.err().unwrap();
    assert_eq!(error.to_string(), "configured logging driver does not support reading");
}
