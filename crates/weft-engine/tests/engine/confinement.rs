//! What a container may not do.

use bollard_stubs::models::{ContainerCreateBody, DeviceMapping};
use weft_types::{Classified, ErrorKind};

use crate::Test;
use crate::support::{Lab, host, run};

pub(crate) const TESTS: &[Test] = &[
    ("default_confinement_holds", || run(default_confinement_holds)),
    ("programs_find_signals_as_new", || run(programs_find_signals_as_new)),
    ("execs_are_confined_too", || run(execs_are_confined_too)),
    ("capabilities_can_be_added_and_dropped", || run(capabilities_can_be_added_and_dropped)),
    ("privileged_is_dockers", || run(privileged_is_dockers)),
    ("profiles_of_the_user", || run(profiles_of_the_user)),
    ("no_new_privileges_is_set", || run(no_new_privileges_is_set)),
    ("devices_need_a_rule", || run(devices_need_a_rule)),
    ("users_have_no_capabilities", || run(users_have_no_capabilities)),
];

/// Docker's 14 default capabilities as a mask (capabilities(7)).
const DEFAULT_MASK: &str = "00000000a80425fb";

/// What the kernel says about a process.
const STATUS: &str = "grep -E '^(Seccomp|CapEff|CapBnd|NoNewPrivs):' /proc/self/status | tr -s '\\t' ' '";

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap_or_default();
    line.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

async fn default_confinement_holds(lab: Lab) {
    let (_, out, _) = lab.run(STATUS, |_| {}).await;
    assert_eq!(field(&out, "Seccomp"), "2");
    assert_eq!(field(&out, "CapEff"), DEFAULT_MASK);
    assert_eq!(field(&out, "CapBnd"), DEFAULT_MASK);
    assert_eq!(field(&out, "NoNewPrivs"), "0");
    let (code, _, err) = lab.run("mount -t tmpfs none /tmp", |_| {}).await;
    assert!(code != 0 && err.contains("denied") || err.contains("not permitted"), "{code} {err}");
    // Also with the capability: then the filter would allow it, so this shows the capability's part.
    let (code, _, _) = lab.run("unshare -m true", |_| {}).await;
    assert_ne!(code, 0);
    let masked = "cat /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware | wc -l; ls /proc/acpi 2>/dev/null | wc -l; \
                  echo x > /proc/sys/kernel/hostname || echo readonly; touch /sys/x || echo readonly; \
                  cat /proc/keys | wc -c";
    let (_, out, _) = lab.run(masked, |_| {}).await;
    assert_eq!(out, "0\n0\n0\nreadonly\nreadonly\n0\n");
    // keyctl and the like by number, as the filter sees them.
    let (_, out, _) = lab.run(&refused_calls(), with_probe(&lab)).await;
    assert_eq!(
        out,
        "keyctl EPERM\nadd_key EPERM\nmount EPERM\nunshare EPERM\nclone3 ENOSYS\nbpf EPERM\nclone EPERM\ngetpid ok\n"
    );
}

/// Makes system calls by number; built with the machine's C compiler.
const PROBE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static void call(const char *name, long number, long first) {
    errno = 0;
    long result = syscall(number, first, 0, 0, 0, 0, 0);
    const char *word = result >= 0 ? "ok" : errno == EPERM ? "EPERM" : errno == ENOSYS ? "ENOSYS" : "other";
    printf("%s %s\n", name, word);
}
int main(void) {
    call("keyctl", SYS_keyctl, 0);
    call("add_key", SYS_add_key, 0);
    call("mount", SYS_mount, 0);
    call("unshare", SYS_unshare, 0);
    call("clone3", SYS_clone3, 0);
    call("bpf", SYS_bpf, 0);
    call("clone", SYS_clone, CLONE_NEWUSER);
    call("getpid", SYS_getpid, 0);
    return 0;
}
"#;

fn refused_calls() -> String {
    "/probe/probe".to_owned()
}

fn with_probe(lab: &Lab) -> impl FnOnce(&mut ContainerCreateBody) + use<> {
    let dir = lab.dir.path().join("probe");
    if !dir.exists() {
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("probe.c"), PROBE).unwrap();
        let mut compiler = std::process::Command::new("cc");
        compiler.current_dir(&dir).args(["-static", "-o", "probe", "probe.c"]);
        assert!(compiler.status().unwrap().success());
    }
    let bind = format!("{}:/probe:ro", dir.display());
    move |body| host(body).binds.get_or_insert_default().push(bind)
}

/// Neither what the daemon was started with nor what the shim needs for itself.
async fn programs_find_signals_as_new(lab: Lab) {
    let as_new = |status: &str| {
        for set in ["SigBlk", "SigIgn"] {
            assert_eq!(field(status, set), "0000000000000000", "{status}");
        }
    };
    // Without a shell, which has signals of its own.
    let status = ["grep", "^Sig", "/proc/self/status"];
    for privileged in [false, true] {
        let ask = |body: &mut ContainerCreateBody| {
            body.cmd = Some(status.map(str::to_owned).into());
            host(body).privileged = Some(privileged);
        };
        as_new(&lab.run("", ask).await.1);
    }
    let id = lab.start("sleep 100", |_| {}).await;
    as_new(&lab.exec(&id, &status).await.1);
}

async fn execs_are_confined_too(lab: Lab) {
    let id = lab.start("exec sleep 1000", with_probe(&lab)).await;
    let (_, out, _) = lab.exec(&id, &["sh", "-c", STATUS]).await;
    assert_eq!(field(&out, "Seccomp"), "2");
    assert_eq!(field(&out, "CapEff"), DEFAULT_MASK);
    assert_eq!(field(&out, "CapBnd"), DEFAULT_MASK);
    let (_, out, _) = lab.exec(&id, &["/probe/probe"]).await;
    assert!(out.starts_with("keyctl EPERM\nadd_key EPERM\nmount EPERM\n"), "{out}");
    let (_, out, _) =
        lab.exec_with(&id, &["sh", "-c", STATUS], |config| config.user = Some("web".into())).await;
    assert_eq!((field(&out, "Seccomp").as_str(), field(&out, "CapEff").as_str()), ("2", "0000000000000000"));
    let (_, out, _) =
        lab.exec_with(&id, &["sh", "-c", STATUS], |config| config.privileged = Some(true)).await;
    assert_ne!(field(&out, "CapEff"), DEFAULT_MASK);
    let bare = lab.start("exec sleep 1000", |body| host(body).cap_drop = Some(vec!["ALL".into()])).await;
    let (_, out, _) = lab.exec(&bare, &["sh", "-c", STATUS]).await;
    assert_eq!(field(&out, "Seccomp"), "2");
    assert_eq!(field(&out, "CapBnd"), "0000000000000000");
}

async fn capabilities_can_be_added_and_dropped(lab: Lab) {
    let (_, out, _) = lab.run(STATUS, |body| host(body).cap_drop = Some(vec!["ALL".into()])).await;
    assert_eq!(field(&out, "CapEff"), "0000000000000000");
    // SYS_ADMIN opens mount in the filter as well.
    let (code, _, err) = lab
        .run("mount -t tmpfs none /tmp && unshare -m true", |body| {
            host(body).cap_add = Some(vec!["SYS_ADMIN".into()]);
        })
        .await;
    assert_eq!((code, err.as_str()), (0, ""));
}

async fn privileged_is_dockers(lab: Lab) {
    let script = format!(
        "{STATUS}; mount -t tmpfs none /tmp && echo mounted; ls /dev | wc -l; \
                          touch /proc/sys/kernel/hostname && echo writable; wc -c < /proc/keys"
    );
    let (_, out, _) = lab.run(&script, |body| host(body).privileged = Some(true)).await;
    assert_eq!(field(&out, "Seccomp"), "0");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(field(&out, "CapEff"), field(&own, "CapBnd"));
    assert!(out.contains("\nmounted\n") && out.contains("\nwritable\n"), "{out}");
    let devices: usize = out.lines().nth(5).unwrap().parse().unwrap();
    assert!(devices > 20, "{out}");
}

async fn profiles_of_the_user(lab: Lab) {
    let option = |text: &str| Some(vec![format!("seccomp={text}")]);
    let (_, out, _) = lab.run(STATUS, |body| host(body).security_opt = option("unconfined")).await;
    assert_eq!(field(&out, "Seccomp"), "0");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#;
    let (code, _, err) = lab.run("mkdir /x", |body| host(body).security_opt = option(profile)).await;
    assert!(code != 0 && err.contains("Permission denied"), "{err}");
    let mut body = crate::support::shell("true");
    host(&mut body).security_opt = option("{bad");
    let error = lab.engine.create(None, body).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert!(error.to_string().starts_with("Decoding seccomp profile failed"), "{error}");
    // A profile that cannot be applied is an error, never silence.
    let wrong = r#"{"defaultAction":"SCMP_ACT_BOGUS"}"#;
    let id = lab.create("true", |body| host(body).security_opt = option(wrong)).await;
    assert!(lab.engine.start(&id).await.is_err());
    let wrong = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    let id = lab.create("true", |body| host(body).security_opt = option(wrong)).await;
    assert!(lab.engine.start(&id).await.is_err());
}

async fn no_new_privileges_is_set(lab: Lab) {
    let option = |body: &mut ContainerCreateBody| {
        host(body).security_opt = Some(vec!["no-new-privileges".into()]);
    };
    let (_, out, _) = lab.run(STATUS, option).await;
    assert_eq!((field(&out, "NoNewPrivs").as_str(), field(&out, "Seccomp").as_str()), ("1", "2"));
    let id = lab.start("exec sleep 1000", option).await;
    let (_, out, _) = lab.exec(&id, &["sh", "-c", STATUS]).await;
    assert_eq!((field(&out, "NoNewPrivs").as_str(), field(&out, "Seccomp").as_str()), ("1", "2"));
}

async fn devices_need_a_rule(lab: Lab) {
    let script = "head -c 4 /dev/zero | wc -c; mknod /dev/mem2 c 1 1 && head -c 1 /dev/mem2 || echo refused";
    let (_, out, _) = lab.run(script, |_| {}).await;
    assert_eq!(out, "4\nrefused\n");
    let (_, out, _) = lab
        .run("ls -l /dev/mine | awk '{print $5 $6}'", |body| {
            host(body).devices = Some(vec![DeviceMapping {
                path_on_host: Some("/dev/zero".into()),
                path_in_container: Some("/dev/mine".into()),
                cgroup_permissions: Some("r".into()),
            }]);
        })
        .await;
    assert_eq!(out, "1,5\n");
}

async fn users_have_no_capabilities(lab: Lab) {
    let (_, out, _) = lab.run(STATUS, |body| body.user = Some("web".into())).await;
    assert_eq!(field(&out, "CapEff"), "0000000000000000");
    assert_eq!(field(&out, "CapBnd"), DEFAULT_MASK);
    assert_eq!(field(&out, "Seccomp"), "2");
}
