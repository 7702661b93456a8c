//! Volumes with options of the driver `local`, beside a real `dockerd`'s words.

use weft_e2e::{Hosts, refusal, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::{SOON, docker, up};

/// Mount points of the daemon's namespace below a folder of a volume.
fn mounted(hosts: &Hosts, volume: &str) -> usize {
    let place = docker(hosts, ["volume", "inspect", "--format", "{{.Mountpoint}}", volume]);
    let mounts = hosts.host("h1").sh("cat /proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.split(' ').nth(4) == Some(&place)).count()
}

#[test]
fn a_volume_is_mounted_while_containers_use_it() {
    let hosts = up("volopts");
    let create =
        "volume create --driver local --opt type=tmpfs --opt device=tmpfs --opt o=size=1m,uid=1000 ram";
    hosts.docker("h1", create).unwrap();
    let options = docker(&hosts, ["volume", "inspect", "--format", "{{json .Options}}", "ram"]);
    assert_eq!(options, r#"{"device":"tmpfs","o":"size=1m,uid=1000","type":"tmpfs"}"#);
    assert_eq!(mounted(&hosts, "ram"), 0);
    hosts.run_idle("h1", "c1", "-v ram:/ram").unwrap();
    hosts.run_idle("h1", "c2", "-v ram:/ram:ro").unwrap();
    assert_eq!(mounted(&hosts, "ram"), 1);
    // It is the file system that was asked for, and the same for both.
    let line =
        hosts.exec("h1", "c1", "grep ' /ram ' /proc/mounts; stat -c %u /ram; echo word > /ram/f").unwrap();
    assert!(line.contains(" tmpfs ") && line.contains("size=1024k") && line.ends_with("1000"), "{line}");
    assert_eq!(hosts.exec("h1", "c2", "cat /ram/f").unwrap(), "word");
    assert!(hosts.exec("h1", "c2", "touch /ram/g").is_err());
    docker(&hosts, ["cp", "c1:/ram/f", &hosts.host("h1").dir.join("copied").display().to_string()]);
    assert!(refusal(hosts.docker("h1", "volume rm ram")).contains("volume is in use"));
    docker(&hosts, ["rm", "-f", "c1"]);
    assert_eq!((mounted(&hosts, "ram"), hosts.exec("h1", "c2", "cat /ram/f").unwrap().as_str()), (1, "word"));
    docker(&hosts, ["kill", "c2"]);
    eventually("the volume's end", SOON, || match mounted(&hosts, "ram") {
        0 => Ok(()),
        many => Err(format!("{many} mounts")),
    });
    // Memory forgets, as it should.
    docker(&hosts, ["start", "c2"]);
    assert!(hosts.exec("h1", "c2", "cat /ram/f").is_err());
    docker(&hosts, ["rm", "-f", "c2"]);
    docker(&hosts, ["volume", "rm", "ram"]);
}

#[test]
fn a_volume_of_a_folder_keeps_its_files_whatever_happens_to_the_volume() {
    let mut hosts = Hosts::up_with(LabSpec::bridged("volbind", 1), |_| {
        DaemonSpec::weft(&weft_exe()).arg("--live-restore")
    });
    let folder = hosts.host("h1").dir.join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("kept"), "precious").unwrap();
    let mount = format!(
        "type=volume,source=data,target=/data,volume-driver=local,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={}",
        folder.display()
    );
    let run =
        ["run", "-d", "--stop-timeout", "0", "--name", "c1", "--mount", &mount, "busybox", "sleep", "100000"];
    docker(&hosts, run);
    assert_eq!(hosts.exec("h1", "c1", "cat /data/kept; echo new > /data/new").unwrap(), "precious");
    // The daemon's crash changes nothing, and the next one knows who has the volume.
    hosts.daemon("h1").clone().kill().unwrap();
    hosts.start("h1");
    assert_eq!(hosts.exec("h1", "c1", "cat /data/new").unwrap(), "new");
    docker(&hosts, ["run", "--rm", "-v", "data:/data", "busybox", "touch", "/data/more"]);
    assert_eq!(mounted(&hosts, "data"), 1);
    docker(&hosts, ["kill", "c1"]);
    eventually("the volume's end", SOON, || match mounted(&hosts, "data") {
        0 => Ok(()),
        many => Err(format!("{many} mounts")),
    });
    // Copies see it in a stopped container, too, and leave nothing mounted.
    let copy = hosts.host("h1").dir.join("copy").display().to_string();
    docker(&hosts, ["cp", "c1:/data/kept", &copy]);
    assert_eq!((std::fs::read_to_string(&copy).unwrap().as_str(), mounted(&hosts, "data")), ("precious", 0));
    docker(&hosts, ["rm", "c1"]);
    docker(&hosts, ["volume", "rm", "data"]);
    for (file, content) in [("kept", "precious"), ("new", "new\n"), ("more", "")] {
        assert_eq!(std::fs::read_to_string(folder.join(file)).unwrap(), content);
    }
}

#[test]
fn what_makes_no_volume_is_refused_in_dockers_words() {
    let hosts = Hosts::up_with(LabSpec::bridged("volwords", 2), |host| match host {
        "h1" => DaemonSpec::weft(&weft_exe()),
        _ => DaemonSpec::docker(),
    });
    for line in [
        "volume create --opt foo=bar v1",
        "volume create --opt type=tmpfs v1",
        "volume create --opt device=/x v1",
        "volume create --opt type=none --opt o=bind v1",
        "volume create --driver nosuch v1",
        "run --rm --pull never --volume-driver nosuch -v v1:/x busybox true",
        "run --rm --pull never --mount type=volume,source=v1,target=/x,volume-driver=nosuch busybox true",
    ] {
        let theirs = refusal(hosts.docker("h2", line));
        assert_eq!(refusal(hosts.docker("h1", line)), theirs, "{line}");
    }
    assert_eq!(docker(&hosts, ["volume", "ls", "-q"]), "");
    // What only the kernel can refuse is refused at the start, with what it was asked.
    let shown = |host: &str, text: &str| {
        let place = hosts.docker(host, "volume inspect --format {{.Mountpoint}} bad").unwrap();
        text.replace(&place, "PLACE").replace("docker: ", "")
    };
    for host in ["h1", "h2"] {
        let create = "volume create --opt type=none --opt o=bind,ro --opt device=/nosuch bad";
        hosts.docker(host, create).unwrap();
    }
    let [ours, theirs] =
        ["h1", "h2"].map(|host| shown(host, &refusal(hosts.docker(host, "run --rm -v bad:/x busybox true"))));
    assert_eq!(ours, theirs);
    // The kernel is given a server's address, and words that it does not know spare the wait for one.
    let nfs = "volume create --opt type=nfs --opt o=addr=localhost,bogus=1 --opt device=:/x nfs";
    hosts.docker("h1", nfs).unwrap();
    let text = refusal(hosts.docker("h1", "run --rm -v nfs:/x busybox true"));
    assert!(text.contains("failed to mount local volume: mount :/x:"), "{text}");
    assert!(text.contains(",bogus=1: ") && !text.contains("localhost"), "{text}");
}
