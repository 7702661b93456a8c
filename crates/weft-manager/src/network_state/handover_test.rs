use std::time::SystemTime;

use proptest::prelude::*;
use weft_orchestration::VXLAN_ID_LIST_OPTION;
use weft_wire::swarmkit::{
    Driver, EngineDescription, Network, NetworkAttachment, NetworkSpec, NodeDescription, NodeStatus,
};

use super::*;
use crate::consensus::Machine as _;
use crate::store::{Object, Store, Transaction};

const INGRESS: &str = "ingress";

fn node(id: &str, state: State, version: &str) -> Object {
    let engine = EngineDescription { engine_version: version.to_owned(), ..Default::default() };
    Node {
        id: id.to_owned(),
        status: Some(NodeStatus { state: state.into(), ..Default::default() }),
        description: Some(NodeDescription { engine: Some(engine), ..Default::default() }),
        ..Default::default()
    }
    .into()
}

fn weft(id: &str) -> Object {
    node(id, State::Ready, "28.5.2+weft-0.1.0")
}

fn docker(id: &str) -> Object {
    node(id, State::Ready, "28.5.2")
}

fn network(id: &str) -> Network {
    let options = [(VXLAN_ID_LIST_OPTION.to_owned(), "4097".to_owned())].into();
    Network {
        id: id.to_owned(),
        spec: Some(NetworkSpec { ingress: id == INGRESS, ..Default::default() }),
        driver_state: Some(Driver { name: "overlay".to_owned(), options }),
        ..Default::default()
    }
}

fn task(id: &str, node: &str, networks: &[&str]) -> Task {
    let place = |id: &&str| NetworkAttachment { network: Some(network(id)), ..Default::default() };
    Task {
        id: id.to_owned(),
        node_id: node.to_owned(),
        networks: networks.iter().map(place).collect(),
        ..Default::default()
    }
}

fn view(objects: Vec<Object>) -> Arc<View> {
    let store = Store::new();
    let mut transaction = Transaction::new(SystemTime::UNIX_EPOCH);
    for object in
        [network("web").into(), network("db").into(), network(INGRESS).into()].into_iter().chain(objects)
    {
        transaction.create(object);
    }
    assert!(store.apply(1, &transaction.encode()).is_none());
    store.flush();
    store.view()
}

fn circle(view: &View, tasks: &[Task]) -> Circle {
    let tasks: Vec<&Task> = tasks.iter().collect();
    Circle::of(view, &Reports::default(), "own", &tasks)
}

fn waited_for(circle: &Circle) -> Vec<(&str, Vec<&str>)> {
    circle.weft.iter().map(|(node, on)| (node.as_str(), on.iter().map(String::as_str).collect())).collect()
}

#[test]
fn ready_weft_nodes_of_the_tasks_networks_must_know() {
    let view = view(vec![
        weft("own"),
        weft("both"),
        weft("web"),
        weft("db"),
        weft("none"),
        node("unheard", State::Unknown, "weft"),
        node("away", State::Disconnected, "weft"),
        node("down", State::Down, "weft"),
        task("t1", "own", &["web"]).into(),
        task("t2", "both", &["web", "db"]).into(),
        task("t3", "web", &["web"]).into(),
        task("t4", "db", &["db"]).into(),
        task("t5", "away", &["web"]).into(),
        task("t6", "down", &["web"]).into(),
        task("t7", "unheard", &["web"]).into(),
    ]);
    let of_web = circle(&view, &[task("t1", "own", &["web"])]);
    assert_eq!(waited_for(&of_web), [("both", vec!["web"]), ("unheard", vec!["web"]), ("web", vec!["web"])]);
    assert!(!of_web.has_docker);
    let of_both = circle(&view, &[task("t1", "own", &["web"]), task("t0", "own", &["db"])]);
    let want =
        [("both", vec!["db", "web"]), ("db", vec!["db"]), ("unheard", vec!["web"]), ("web", vec!["web"])];
    assert_eq!(waited_for(&of_both), want);
    assert_eq!(waited_for(&circle(&view, &[task("t1", "own", &[])])), []);
    assert_eq!(waited_for(&circle(&view, &[task("t1", "own", &["unknown"])])), []);
}

#[test]
fn every_ready_node_is_a_door_to_published_ports() {
    let view = view(vec![weft("own"), weft("a"), docker("d"), node("down", State::Down, "weft")]);
    let circle = circle(&view, &[task("t1", "own", &[INGRESS])]);
    assert_eq!(waited_for(&circle), [("a", vec![INGRESS])]);
    assert!(circle.has_docker);
}

#[test]
fn docker_nodes_count_where_they_are_on_the_network() {
    let view = view(vec![weft("own"), docker("d"), task("t1", "d", &["web"]).into()]);
    assert!(circle(&view, &[task("t0", "own", &["web"])]).has_docker);
    assert!(!circle(&view, &[task("t0", "own", &["db"])]).has_docker);
}

#[test]
fn a_reason_stands_before_silence() {
    let on_both = vec![weft("own"), weft("a"), task("t1", "a", &["web", "db"]).into()];
    let view = view(on_both);
    let circle = circle(&view, &[task("t0", "own", &["web", "db"])]);
    let missing = circle.missing(&view, |_, network| match network {
        "web" => Standing::Fails("no VXLAN".to_owned()),
        _ => Standing::Silent,
    });
    assert_eq!(missing, [("a".to_owned(), "no VXLAN".to_owned())].into());
    assert!(circle.missing(&view, |_, _| Standing::Follows).is_empty());
}

proptest! {
    /// Missing is exactly who is ready, shares a network with the task and does not follow there, as of the newest view.
    #[test]
    fn missing_is_who_is_ready_on_the_network_and_does_not_follow(
        nodes in prop::collection::vec((0..3u8, any::<bool>(), any::<bool>(), 0..3u8, any::<bool>()), 0..8),
    ) {
        let engine = |kind: u8| if kind == 2 { "28.5.2" } else { "weft" };
        let build = |later: bool| {
            let mut objects = vec![weft("own")];
            for (number, (kind, was_ready, is_ready, _, leaves)) in nodes.iter().enumerate() {
                let ready = if later { *is_ready } else { *was_ready };
                let state = if ready { State::Ready } else { State::Down };
                objects.push(node(&format!("n{number}"), state, engine(*kind)));
                if *kind != 1 && !(later && *leaves) {
                    objects.push(task(&format!("t{number}"), &format!("n{number}"), &["web"]).into());
                }
            }
            view(objects)
        };
        let (before, after) = (build(false), build(true));
        let circle = circle(&before, &[task("t", "own", &["web"])]);
        let standing = |node: &str, _: &str| {
            let number: usize = node[1..].parse().unwrap();
            match nodes[number].3 {
                0 => Standing::Follows,
                1 => Standing::Silent,
                _ => Standing::Fails("why".to_owned()),
            }
        };
        let missing: BTreeSet<String> = circle.missing(&after, standing).into_keys().collect();
        let mut want = BTreeSet::new();
        for (number, (kind, was_ready, is_ready, follows, leaves)) in nodes.iter().enumerate() {
            if *kind == 0 && *was_ready && *is_ready && *follows != 0 && !leaves {
                want.insert(format!("n{number}"));
            }
        }
        prop_assert_eq!(missing, want);
    }
}
