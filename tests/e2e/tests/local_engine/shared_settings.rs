//! Networks' settings that others take over, and containers under further names.

use weft_e2e::refusal;

use crate::{docker, up};

#[test]
fn networks_take_over_the_settings_of_others() {
    let hosts = up("config");
    hosts.docker("h1", "network create --config-only --subnet 10.78.0.0/24 --label a=b cfg").unwrap();
    let shown = hosts.inspect("h1", "cfg", "{{.Driver}} {{.ConfigOnly}} {{json .IPAM.Config}}").unwrap();
    assert_eq!(shown, r#"null true [{"Subnet":"10.78.0.0/24"}]"#);
    hosts.docker("h1", "network create --config-from cfg real").unwrap();
    assert_eq!(
        hosts.inspect("h1", "real", "{{.Driver}} {{.ConfigFrom.Network}} {{.Labels.a}}").unwrap(),
        "bridge cfg b"
    );
    hosts.run_idle("h1", "c1", "--network real --ip 10.78.0.9").unwrap();
    assert_eq!(hosts.address("h1", "c1", "real").unwrap(), "10.78.0.9");
    for (line, words) in [
        ("network rm cfg", "configuration network \"cfg\" is in use"),
        (
            "network create --config-from cfg --subnet 10.1.0.0/24 x",
            "user specified configurations are not supported",
        ),
        ("network create --config-from nosuch x", "configuration network \"nosuch\" not found"),
        (
            "network create --config-only --internal x",
            "configuration network can only contain network specific fields",
        ),
        ("network connect cfg c1", "cannot create endpoint on configuration-only network"),
    ] {
        let text = refusal(hosts.docker("h1", line));
        assert!(text.contains(words), "{line}: {text}");
    }
    docker(&hosts, ["network", "prune", "-f"]);
    assert!(hosts.inspect("h1", "cfg", "{{.Id}}").is_ok(), "settings are nobody's rubbish");
    docker(&hosts, ["rm", "-f", "c1"]);
    docker(&hosts, ["network", "rm", "real", "cfg"]);
}

#[test]
fn links_on_user_networks_are_names_of_one_container_alone() {
    let hosts = up("links");
    docker(&hosts, ["network", "create", "web"]);
    hosts.run_idle("h1", "db", "--network web").unwrap();
    hosts.run_idle("h1", "app", "").unwrap();
    hosts.run_idle("h1", "other", "--network web").unwrap();
    docker(&hosts, ["network", "connect", "--link", "db:store", "web", "app"]);
    assert!(hosts.exec("h1", "app", "ping -c 1 -W 2 store").is_ok());
    assert!(hosts.exec("h1", "other", "nslookup store").is_err(), "nobody else has the name");
    // Another container of that name is found at its own address.
    docker(&hosts, ["rm", "-f", "db"]);
    hosts.run_idle("h1", "filler", "--network web").unwrap();
    hosts.run_idle("h1", "db", "--network web").unwrap();
    assert!(hosts.exec("h1", "app", "ping -c 1 -W 2 store").is_ok());
    let text = refusal(hosts.docker("h1", "run -d --link db:store busybox true"));
    assert!(
        text.contains("legacy links are not supported: put the containers on a user-defined network"),
        "{text}"
    );
}
