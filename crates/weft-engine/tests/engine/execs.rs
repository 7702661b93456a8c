//! Further processes in running containers.

use std::time::Instant;

use bollard_stubs::models::ExecConfig;
use tokio::io::AsyncWriteExt;
use weft_engine::{AttachOptions, ExecStartOptions};
use weft_types::{Classified, ErrorKind};

use crate::Test;
use crate::support::{Lab, collect, eventually, read_until, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("exec_gives_output_and_exit_code", || run(exec_gives_output_and_exit_code)),
    ("exec_refusals_have_dockers_words", || run(exec_refusals)),
    ("exec_with_input_and_half_close", || run(exec_with_input)),
    ("exec_with_a_terminal", || run(exec_with_a_terminal)),
    ("detached_exec_goes_on", || run(detached_exec_goes_on)),
    ("twenty_execs_beside_attached_streams", || run(twenty_execs_beside_attached_streams)),
    ("execs_end_with_their_container", || run(execs_end_with_their_container)),
];

async fn exec_gives_output_and_exit_code(lab: Lab) {
    let id = lab.start("exec sleep 1000", |body| body.env = Some(vec!["A=1".into()])).await;
    let (code, out, err) = lab.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 4"]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (4, "out\n", "err\n"));
    let (_, out, _) = lab
        .exec_with(&id, &["sh", "-c", "echo $A $B; pwd; id -u; echo $HOME"], |config| {
            config.env = Some(vec!["B=2".into()]);
            config.working_dir = Some("/tmp".into());
            config.user = Some("web".into());
        })
        .await;
    assert_eq!(out, "1 2\n/tmp\n1000\n/tmp\n");
    // It is in the container's namespaces and cgroups.
    let (_, out, _) = lab.exec(&id, &["sh", "-c", "cat /proc/self/cgroup; ps | grep -c 'sleep 1000'"]).await;
    assert!(out.contains(&format!("0::/weft/{id}")), "{out}");
    assert!(out.contains(&format!("memory:/weft/{id}")) || out.lines().count() == 2, "{out}");
}

async fn exec_refusals(lab: Lab) {
    let id = lab.start("exec sleep 1000", |_| {}).await;
    let (code, out, _) = lab.exec(&id, &["nosuchcmd"]).await;
    assert_eq!(code, 127);
    assert_eq!(
        out,
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuchcmd\": executable file not found in $PATH\r\n"
    );
    let (code, out, _) = lab.exec(&id, &["/etc/plain"]).await;
    assert_eq!(code, 126);
    assert!(out.contains("exec: \"/etc/plain\": permission denied"), "{out}");
    let (code, out, _) =
        lab.exec_with(&id, &["true"], |config| config.working_dir = Some("/nosuch".into())).await;
    assert_eq!(code, 127);
    assert!(
        out.ends_with("chdir to cwd (\"/nosuch\") set in config.json failed: no such file or directory\r\n"),
        "{out}"
    );
    let config = |cmd: &[&str], user: &str| ExecConfig {
        cmd: Some(cmd.iter().map(|word| (*word).to_owned()).collect()),
        user: Some(user.to_owned()),
        ..ExecConfig::default()
    };
    let error = lab.engine.exec_create(&id, config(&["true"], "nosuch")).await.unwrap_err();
    assert_eq!(error.to_string(), "unable to find user nosuch: no matching entries in passwd file");
    let error = lab.engine.exec_create(&id, config(&[], "")).await.unwrap_err();
    assert_eq!(error.to_string(), "No exec command specified");
    let error = lab.engine.exec_inspect("nosuch").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "No such exec instance: nosuch")
    );
    let detached = lab.engine.exec_create(&id, config(&["nosuchcmd"], "")).await.unwrap();
    let options = ExecStartOptions { detach: true, console_size: None };
    assert!(lab.engine.exec_start(&detached, options).await.is_err());
    lab.engine.kill(&id, None).await.unwrap();
    let error = lab.engine.exec_create(&id, config(&["true"], "")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Conflict, format!("container {id} is not running"))
    );
}

async fn exec_with_input(lab: Lab) {
    let id = lab.start("exec sleep 1000", |_| {}).await;
    let config = ExecConfig {
        cmd: Some(vec!["cat".into()]),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        ..ExecConfig::default()
    };
    let exec = lab.engine.exec_create(&id, config).await.unwrap();
    let mut streams = lab.engine.exec_start(&exec, ExecStartOptions::default()).await.unwrap().unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    let data = vec![b'z'; 500_000];
    let writer = tokio::spawn(async move {
        stdin.write_all(&data).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let (out, _) = collect(streams.output).await;
    writer.await.unwrap();
    assert_eq!(out.len(), 500_000);
    assert_eq!(eventually(|| lab.engine.exec_inspect(&exec).unwrap().exit_code).await, 0);
    assert!(lab.engine.exec_start(&exec, ExecStartOptions::default()).await.is_err());
}

async fn exec_with_a_terminal(lab: Lab) {
    let id = lab.start("exec sleep 1000", |_| {}).await;
    let config = ExecConfig {
        cmd: Some(vec!["sh".into(), "-c".into(), "stty size; read x; stty size; tty; exit 6".into()]),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        tty: Some(true),
        ..ExecConfig::default()
    };
    let exec = lab.engine.exec_create(&id, config).await.unwrap();
    let options = ExecStartOptions { detach: false, console_size: Some((20, 70)) };
    let mut streams = lab.engine.exec_start(&exec, options).await.unwrap().unwrap();
    assert!(streams.tty);
    let mut text = read_until(&mut streams.output, "\n").await;
    lab.engine.exec_resize(&exec, 44, 132).await.unwrap();
    streams.stdin.take().unwrap().write_all(b"x\n").await.unwrap();
    text += &collect(streams.output).await.0;
    assert!(text.contains("20 70\r\n") && text.contains("44 132\r\n/dev/pts/"), "{text:?}");
    assert_eq!(eventually(|| lab.engine.exec_inspect(&exec).unwrap().exit_code).await, 6);
    let error = lab.engine.exec_resize(&exec, 1, 1).await.unwrap_err();
    assert_eq!(error.to_string(), format!("NotFound: process does not exist {exec}: not found"));
}

async fn detached_exec_goes_on(lab: Lab) {
    let id = lab.start("exec sleep 1000", |_| {}).await;
    let script = "while [ ! -e /go ]; do sleep 0.05; done; exit 9";
    let config =
        ExecConfig { cmd: Some(["sh", "-c", script].map(str::to_owned).into()), ..ExecConfig::default() };
    let exec = lab.engine.exec_create(&id, config).await.unwrap();
    let options = ExecStartOptions { detach: true, console_size: None };
    assert!(lab.engine.exec_start(&exec, options).await.unwrap().is_none());
    let view = lab.engine.exec_inspect(&exec).unwrap();
    assert_eq!((view.running, view.exit_code), (Some(true), None));
    assert!(view.pid.unwrap() > 0);
    lab.exec(&id, &["touch", "/go"]).await;
    assert_eq!(eventually(|| lab.engine.exec_inspect(&exec).unwrap().exit_code).await, 9);
}

async fn twenty_execs_beside_attached_streams(lab: Lab) {
    let id = lab.create("yes attached", |_| {}).await;
    let options = AttachOptions { stdin: false, stdout: true, stderr: true, logs: false, stream: true };
    // A client that takes everything as fast as it comes.
    let mut reading = lab.engine.attach(&id, options).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut count = 0usize;
        while let Some(Ok((_, data))) = futures_util::StreamExt::next(&mut reading.output).await {
            count += data.len();
        }
        count
    });
    let begin = Instant::now();
    let execs: Vec<_> = (0..20)
        .map(|number| {
            let (lab, id) = (lab.clone(), id.clone());
            tokio::spawn(async move {
                let script = format!("for i in 1 2 3 4 5; do echo {number}; done; exit {number}");
                lab.exec(&id, &["sh", "-c", &script]).await
            })
        })
        .collect();
    for (number, exec) in execs.into_iter().enumerate() {
        let (code, out, _) = timeout(exec).await.unwrap();
        assert_eq!((code, out), (number as i64, format!("{number}\n").repeat(5)));
    }
    println!("    20 execs took {:?}", begin.elapsed());
    lab.engine.kill(&id, None).await.unwrap();
    assert!(timeout(reader).await.unwrap() > 100_000);
}

async fn execs_end_with_their_container(lab: Lab) {
    let id = lab.start("exec sleep 1000", |_| {}).await;
    let config = ExecConfig {
        cmd: Some(["sleep", "1000"].map(str::to_owned).into()),
        attach_stdout: Some(true),
        ..ExecConfig::default()
    };
    let exec = lab.engine.exec_create(&id, config).await.unwrap();
    let streams = lab.engine.exec_start(&exec, ExecStartOptions::default()).await.unwrap().unwrap();
    lab.engine.kill(&id, None).await.unwrap();
    collect(streams.output).await;
    assert_eq!(eventually(|| lab.engine.exec_inspect(&exec).unwrap().exit_code).await, 137);
}
