//! Networks of one host.

use weft_e2e::refusal;
use weft_lab::eventually;

use crate::{SOON, docker, up};

#[test]
fn local_networks_give_names_and_publish_ports() {
    let hosts = up("localnet");
    docker(&hosts, ["network", "create", "--label", "l=1", "front"]);
    docker(&hosts, ["network", "create", "--subnet", "10.88.1.0/24", "back"]);
    hosts.run_idle("h1", "a1", "--network front").unwrap();
    let serve = "mkdir /www; echo page > /www/index.html; httpd -f -p 80 -h /www";
    docker(
        &hosts,
        [
            "run",
            "-d",
            "--name",
            "b1",
            "--network",
            "front",
            "--network-alias",
            "web",
            "-p",
            "8080:80",
            "busybox",
            "sh",
            "-c",
            serve,
        ],
    );
    eventually("HTTP by alias", SOON, || {
        hosts.exec("h1", "a1", "timeout 3 wget -q -O - http://web/").map(drop)
    });
    let page =
        hosts.host("h1").sh("timeout 5 busybox wget -q -O - http://127.0.0.1:8080/ 2>&1 || true").unwrap();
    assert_eq!(page.trim(), "page");
    assert!(docker(&hosts, ["port", "b1"]).contains("80/tcp -> 0.0.0.0:8080"));
    let text = refusal(hosts.run_idle("h1", "taken", "-p 8080:80"));
    assert!(text.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{text}");

    docker(&hosts, ["rename", "b1", "b2"]);
    eventually("HTTP by the new name", SOON, || {
        hosts.exec("h1", "a1", "timeout 3 wget -q -O - http://b2/").map(drop)
    });
    assert!(hosts.exec("h1", "a1", "nslookup b1").is_err(), "the old name is gone");
    let names = "{{range .NetworkSettings.Networks}}{{range .DNSNames}}{{.}} {{end}}{{end}}";
    let names = docker(&hosts, ["inspect", "--format", names, "b2"]);
    let has = |wanted: &str| names.split(' ').any(|name| name == wanted);
    assert!(has("b2") && !has("b1"), "{names}");
    docker(&hosts, ["rename", "b2", "b1"]);

    docker(&hosts, ["network", "connect", "--ip", "10.88.1.50", "back", "a1"]);
    assert_eq!(hosts.address("h1", "a1", "back").unwrap(), "10.88.1.50");
    let names =
        docker(&hosts, ["network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{end}}", "front"]);
    let mut names: Vec<&str> = names.split_whitespace().collect();
    names.sort_unstable();
    assert_eq!(names, ["a1", "b1"]);
    docker(&hosts, ["network", "disconnect", "front", "a1"]);
    assert!(hosts.exec("h1", "a1", "nslookup b1").is_err());
    assert_eq!(docker(&hosts, ["network", "ls", "--filter", "label=l=1", "--format", "{{.Name}}"]), "front");
    docker(&hosts, ["rm", "-f", "a1", "b1", "taken"]);
    let pruned = docker(&hosts, ["network", "prune", "-f"]);
    assert!(pruned.contains("front") && pruned.contains("back"), "{pruned}");
}
