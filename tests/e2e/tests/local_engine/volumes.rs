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
    // A container that ends while no daemon runs leaves it mounted, but not past the next one's start.
    docker(&hosts, ["start", "c1"]);
    let pid = hosts.inspect("h1", "c1", "{{.State.Pid}}").unwrap();
    hosts.daemon("h1").clone().kill().unwrap();
    hosts.host("h1").sh(&format!("kill -9 {pid}")).unwrap();
    hosts.start("h1");
    eventually("the volume's end", SOON, || match mounted(&hosts, "data") {
        0 => Ok(()),
        many => Err(format!("{many} mounts")),
    });
    docker(&hosts, ["rm", "c1"]);
    docker(&hosts, ["volume", "rm", "data"]);
    for (file, content) in [("kept", "precious"), ("new", "new\n"), ("more", "")] {
        assert_eq!(std::fs::read_to_string(folder.join(file)).unwrap(), content);
    }
}

#[test]
fn volumes_are_listed_pruned_and_told_of_as_dockers() {
    let hosts = up("volprune");
    for line in [
        "volume create --label keep=1 named",
        "volume create other",
        "volume create",
        "create --pull never --name c1 -v used:/used -v /anonymous busybox true",
        "run --rm busybox true",
    ] {
        hosts.docker("h1", line).unwrap();
    }
    let names = |filter: &str| {
        let list = hosts.docker("h1", format!("volume ls -q --filter {filter}").as_str()).unwrap();
        let mut names: Vec<String> = list
            .lines()
            .map(|name| if name.len() == 64 { "ANON".to_owned() } else { name.to_owned() })
            .collect();
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(names("dangling=true"), "ANON named other");
    assert_eq!(names("dangling=false"), "ANON used");
    assert_eq!(names("name=^na"), "named");
    assert_eq!(names("label=keep"), "named");
    assert_eq!(names("label=com.docker.volume.anonymous"), "ANON ANON");
    assert_eq!(names("driver=other"), "");
    for filter in ["dangling=x", "bogus=1"] {
        let text = refusal(hosts.docker("h1", format!("volume ls --filter {filter}").as_str()));
        assert!(text.contains(&format!("invalid filter '{}", filter.split('=').next().unwrap())), "{text}");
    }
    docker(&hosts, ["run", "--rm", "-v", "other:/x", "busybox", "sh", "-c", "head -c 1000 /dev/zero > /x/f"]);
    let sizes = docker(&hosts, ["system", "df", "-v", "--format", "{{json .Volumes}}"]);
    assert!(sizes.contains(r#""Links":"1""#) && sizes.contains(r#""Size":"1kB""#), "{sizes}");
    // Without a name, unless asked for all; never what a container has.
    let pruned = docker(&hosts, ["volume", "prune", "-f"]);
    assert_eq!(pruned.lines().filter(|line| line.len() == 64).count(), 1, "{pruned}");
    assert_eq!(names("dangling=true"), "named other");
    let pruned = docker(&hosts, ["volume", "prune", "-af", "--filter", "label!=keep"]);
    assert!(pruned.contains("\nother\n") && pruned.ends_with("Total reclaimed space: 1kB"), "{pruned}");
    // Clients of old knew no other prune.
    let url = hosts.daemon("h1").url();
    let old =
        hosts.host("h1").sh(&format!("DOCKER_API_VERSION=1.41 docker -H {url} volume prune -f")).unwrap();
    assert!(old.contains("\nnamed\n"), "{old}");
    docker(&hosts, ["rm", "-v", "c1"]);
    docker(&hosts, ["volume", "rm", "used"]);
    let events = docker(
        &hosts,
        [
            "events",
            "--since",
            "10m",
            // The client counts in whole seconds, and this one is not over.
            "--until=-1s",
            "--filter",
            "type=volume",
            "--format",
            "{{.Action}} {{.Actor.ID}} {{index .Actor.Attributes \"destination\"}} {{index .Actor.Attributes \"read/write\"}}",
        ],
    );
    let of_other: Vec<&str> = events.lines().filter(|line| line.contains(" other ")).collect();
    assert_eq!(of_other, ["create other  ", "mount other /x true", "unmount other  ", "destroy other  "]);
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
    // Both tell the same of a volume's life.
    let [ours, theirs] = ["h1", "h2"].map(|host| {
        hosts.docker(host, "run --rm -v told:/x:ro busybox true").unwrap();
        hosts.docker(host, "volume rm told").unwrap();
        let format = "{{.Action}} {{json .Actor.Attributes}}";
        let events =
            ["events", "--since", "10m", "--until=-1s", "--filter", "volume=told", "--format", format];
        let events = hosts.docker(host, events).unwrap();
        let words = events.split('"').map(|word| if word.len() == 64 { "ID" } else { word });
        words.collect::<Vec<_>>().join("\"")
    });
    assert_eq!(ours, theirs);
    // The kernel is given a server's address, and words that it does not know spare the wait for one.
    let nfs = "volume create --opt type=nfs --opt o=addr=localhost,bogus=1 --opt device=:/x nfs";
    hosts.docker("h1", nfs).unwrap();
    let text = refusal(hosts.docker("h1", "run --rm -v nfs:/x busybox true"));
    assert!(text.contains("failed to mount local volume: mount :/x:"), "{text}");
    assert!(text.contains(",bogus=1: ") && !text.contains("localhost"), "{text}");
}
