//! `weft.v1.NetworkState`: what nodes tell and are told, how fast, and what they may not.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use tonic::Code;
use weft_manager::{InitOptions, Notice, Timing, Turn};
use weft_wire::swarmkit::Task;
use weft_wire::swarmkit::node_status::State;
use weft_wire::weft_v1::{AckRequest, DepartRequest, Endpoint, HandoverRequest, WatchMessage, WatchRequest};

async fn attach(swarm: &Swarm, node: &Member, network: &str) -> Task {
    let id = node.attach(network, &[]).await.unwrap();
    Task::clone(&swarm.control().task(&id).unwrap())
}

async fn report(node: &Member, vtep: &str, endpoints: Vec<Endpoint>) -> u64 {
    node.network_state().report(node.report(vtep, 1500, endpoints)).await.unwrap().into_inner().index
}

fn endpoints_of(message: &WatchMessage) -> Vec<(&str, &str)> {
    let networks = message.networks.iter();
    networks
        .flat_map(|network| &network.endpoints)
        .map(|remote| (remote.endpoint.as_ref().unwrap().name.as_str(), remote.vtep.as_str()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_reach_other_nodes_whole_then_as_deltas() {
    let swarm = Swarm::start().await;
    let network = swarm.overlay("web").await;
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let (ta, tb) = (attach(&swarm, &a, "web").await, attach(&swarm, &b, "web").await);
    let index = report(&a, "127.0.0.2", vec![endpoint(&ta, "c1")]).await;

    let mut watch = b.watch().await;
    let first = next(&mut watch).await;
    assert!(first.full && first.index >= index);
    assert_eq!(endpoints_of(&first), [("c1", "127.0.0.2")]);
    let told = first.networks.iter().find(|told| told.network_id == network.id).unwrap();
    assert!(told.whole && told.mtu == 1450);
    let remote = &told.endpoints[0];
    assert_eq!(
        (remote.node_id.as_str(), remote.endpoint.as_ref().unwrap().address.as_str()),
        (a.id().as_str(), "10.0.1.2/24")
    );
    let member = first.members.iter().find(|member| member.node_id == a.id()).unwrap();
    assert!(member.is_weft);
    assert_eq!(
        (member.data_path_address.as_str(), member.gossip_name.as_str(), member.state),
        ("127.0.0.2", "0123456789ab", 2)
    );
    assert_eq!(first.members.len(), 3);

    // One's own endpoint is no news; another one of the neighbour is.
    report(&b, "127.0.0.3", vec![endpoint(&tb, "own")]).await;
    let ta2 = attach(&swarm, &a, "web").await;
    let index = report(&a, "127.0.0.2", vec![endpoint(&ta, "c1"), endpoint(&ta2, "c2")]).await;
    let delta = loop {
        let message = next(&mut watch).await;
        assert!(!message.full);
        if !message.networks.is_empty() {
            break message;
        }
    };
    assert_eq!(delta.index, index);
    assert_eq!(endpoints_of(&delta), [("c2", "127.0.0.2")]);

    // Detached: gone, even before the node reports again.
    a.detach(&ta2.id).await.unwrap();
    let delta = next(&mut watch).await;
    assert_eq!(delta.networks[0].removed_endpoint_ids, [endpoint(&ta2, "c2").id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_endpoint_is_known_elsewhere_at_once() {
    let swarm = Swarm::start().await;
    swarm.overlay("web").await;
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    attach(&swarm, &b, "web").await;
    report(&b, "127.0.0.3", vec![]).await;
    report(&a, "127.0.0.2", vec![]).await;
    let mut watch = b.watch().await;
    next(&mut watch).await;
    let mut times = Vec::new();
    let mut endpoints = Vec::new();
    for number in 0..10 {
        let task = attach(&swarm, &a, "web").await;
        endpoints.push(endpoint(&task, &format!("c{number}")));
        let start = Instant::now();
        report(&a, "127.0.0.2", endpoints.clone()).await;
        loop {
            let message = next(&mut watch).await;
            if endpoints_of(&message).iter().any(|(name, _)| *name == format!("c{number}")) {
                break;
            }
        }
        times.push(start.elapsed());
    }
    times.sort();
    println!("from report to watcher: median {:?}, worst {:?}", times[5], times[9]);
    // Other tests share the machine: the median says what the design does.
    assert!(times[5] < Duration::from_millis(100), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_come_and_go_with_the_nodes_attachments() {
    let swarm = Swarm::start().await;
    let (web, db) = (swarm.overlay("web").await, swarm.overlay("db").await);
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let on_web = attach(&swarm, &a, "web").await;
    let on_db = attach(&swarm, &a, "db").await;
    report(&a, "127.0.0.2", vec![endpoint(&on_web, "web1"), endpoint(&on_db, "db1")]).await;

    // A worker sees only networks that it has endpoints on, and the one that makes every node an entry of the swarm.
    let mut watch = b.watch().await;
    let first: Vec<String> =
        next(&mut watch).await.networks.into_iter().map(|told| told.network_id).collect();
    let ingress = swarm.control().network("ingress").unwrap();
    assert_eq!(first, [ingress.id.as_str()]);
    let attached = attach(&swarm, &b, "web").await;
    let message = next(&mut watch).await;
    assert_eq!(message.networks.len(), 1);
    assert_eq!(message.networks[0].network_id, web.id);
    assert_eq!(endpoints_of(&message), [("web1", "127.0.0.2")]);

    let asked = WatchRequest { session_id: b.session_id.clone(), network_ids: vec![db.id.clone()] };
    let refused = b.network_state().watch(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    b.detach(&attached.id).await.unwrap();
    let third = attach(&swarm, &a, "web").await;
    report(&a, "127.0.0.2", vec![endpoint(&on_web, "web1"), endpoint(&third, "web2")]).await;
    report(&a, "127.0.0.9", vec![]).await;
    // What comes now is only about members.
    let moved = loop {
        let message = next(&mut watch).await;
        assert!(message.networks.is_empty(), "{message:?}");
        if message.members.iter().any(|member| member.data_path_address == "127.0.0.9") {
            break message;
        }
    };
    assert!(!moved.full);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_for_oneself_and_checked() {
    let swarm = Swarm::start().await;
    swarm.overlay("web").await;
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let task = attach(&swarm, &a, "web").await;
    let good = endpoint(&task, "c1");
    let code = async |node: &Member, vtep: &str, mtu: u32, endpoints: Vec<Endpoint>| match node
        .network_state()
        .report(node.report(vtep, mtu, endpoints))
        .await
    {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    };
    assert_eq!(code(&b, "127.0.0.3", 1500, vec![good.clone()]).await, Code::PermissionDenied);
    let other = Endpoint { address: "10.0.1.99/24".to_owned(), ..good.clone() };
    assert_eq!(code(&a, "127.0.0.2", 1500, vec![other]).await, Code::PermissionDenied);
    let other = Endpoint { network_id: "x".to_owned(), ..good.clone() };
    assert_eq!(code(&a, "127.0.0.2", 1500, vec![other]).await, Code::PermissionDenied);
    for mac in ["", "x", "01:00:5e:00:00:01"] {
        let bad = Endpoint { mac: mac.to_owned(), ..good.clone() };
        assert_eq!(code(&a, "127.0.0.2", 1500, vec![bad]).await, Code::InvalidArgument);
    }
    assert_eq!(code(&a, "127.0.0.2", 1500, vec![good.clone(), good.clone()]).await, Code::InvalidArgument);
    for address in ["", "x", "0.0.0.0", "224.0.0.1"] {
        assert_eq!(code(&a, address, 1500, vec![]).await, Code::InvalidArgument);
    }
    assert_eq!(code(&a, "127.0.0.2", 10, vec![]).await, Code::InvalidArgument);
    assert_eq!(code(&a, "127.0.0.2", 1500, vec![good.clone()]).await, Code::Ok);

    // The same again stores nothing.
    let index = swarm.control().view().index();
    report(&a, "127.0.0.2", vec![good]).await;
    assert_eq!(swarm.control().view().index(), index);

    let mut foreign = a.report("127.0.0.2", 1500, vec![]);
    foreign.session_id = b.session_id.clone();
    assert_eq!(a.network_state().report(foreign).await.unwrap_err().message(), "session invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_kept_for_ones_own_networks() {
    let swarm = Swarm::start().await;
    let (web, db) = (swarm.overlay("web").await, swarm.overlay("db").await);
    let a = swarm.weft_node("w1").await;
    attach(&swarm, &a, "web").await;
    let ack = async |network: &str, index: u64, error: &str| {
        let request = AckRequest {
            session_id: a.session_id.clone(),
            index,
            network_id: network.to_owned(),
            error: error.to_owned(),
        };
        a.network_state().ack(request).await.map(drop)
    };
    ack(&web.id, 7, "").await.unwrap();
    ack(&web.id, 5, "late").await.unwrap();
    let word = swarm.control().programmed(&a.id(), &web.id).unwrap();
    assert_eq!((word.index, word.error.as_str()), (7, ""));
    assert_eq!(ack(&db.id, 7, "").await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_a_node_that_is_down_go_and_come_back() {
    let timing = Timing { heartbeat_period: Some(Duration::from_millis(400)), ..fast() };
    let swarm = Swarm::with(timing, InitOptions::new("m1")).await;
    swarm.overlay("web").await;
    let identity = swarm.join().await;
    let a = Member::open(&swarm, identity.clone(), "w1", "weft").await;
    let b = swarm.weft_node("w2").await;
    let task = attach(&swarm, &a, "web").await;
    attach(&swarm, &b, "web").await;
    report(&a, "127.0.0.2", vec![endpoint(&task, "c1")]).await;
    let beating = tokio::spawn({
        let (mut dispatcher, session_id) = (b.dispatcher(), b.session_id.clone());
        async move {
            loop {
                let beat = weft_wire::swarmkit::HeartbeatRequest { session_id: session_id.clone() };
                dispatcher.heartbeat(beat).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let mut watch = b.watch().await;
    assert_eq!(endpoints_of(&next(&mut watch).await), [("c1", "127.0.0.2")]);
    loop {
        let message = next(&mut watch).await;
        if message.networks.iter().any(|network| !network.removed_endpoint_ids.is_empty()) {
            break;
        }
    }
    let _again = Member::open(&swarm, identity, "w1", "weft").await;
    loop {
        let message = next(&mut watch).await;
        if endpoints_of(&message) == [("c1", "127.0.0.2")] {
            break;
        }
    }
    beating.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_peers_are_told_survives_the_manager() {
    let mut swarm = Swarm::start().await;
    swarm.overlay("web").await;
    let (ia, ib) = (swarm.join().await, swarm.join().await);
    let a = Member::open(&swarm, ia, "w1", "weft").await;
    let b = Member::open(&swarm, ib.clone(), "w2", "weft").await;
    let task = attach(&swarm, &a, "web").await;
    attach(&swarm, &b, "web").await;
    report(&a, "127.0.0.2", vec![endpoint(&task, "c1")]).await;
    swarm.restart().await;
    // The neighbour has not come back yet, and its endpoint is there all the same.
    let b = Member::open(&swarm, ib, "w2", "weft").await;
    let mut watch = b.watch().await;
    let first = next(&mut watch).await;
    assert!(first.full);
    assert_eq!(endpoints_of(&first), [("c1", "127.0.0.2")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_helper_answers_is_away_and_its_endpoints_stay() {
    let helper = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timing = Timing {
        heartbeat_period: Some(Duration::from_millis(100)),
        helper_port: Some(helper.local_addr().unwrap().port()),
        ..fast()
    };
    let swarm = Swarm::with(timing, InitOptions::new("m1")).await;
    swarm.overlay("web").await;
    let a = swarm.weft_node("w1").await;
    let task = attach(&swarm, &a, "web").await;
    report(&a, "127.0.0.2", vec![endpoint(&task, "c1")]).await;
    let state = || swarm.control().node("w1").unwrap().status.clone().unwrap().state();
    eventually("the node is away", || state() == State::Disconnected).await;
    // Its daemon comes back within the same session.
    let beat = weft_wire::swarmkit::HeartbeatRequest { session_id: a.session_id.clone() };
    a.dispatcher().heartbeat(beat).await.unwrap();
    assert_eq!(state(), State::Ready);
    eventually("the node is away again", || state() == State::Disconnected).await;
    assert!(swarm.control().task(&task.id).is_ok());
    drop(helper);
    eventually("the node is down", || state() == State::Down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_nodes_port_does_not_speak_for_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timing = Timing {
        heartbeat_period: Some(Duration::from_millis(100)),
        helper_port: Some(listener.local_addr().unwrap().port()),
        ..fast()
    };
    let swarm = Swarm::with(timing, InitOptions::new("m1")).await;
    let _docker = swarm.docker_node("d1").await;
    let mut seen = Vec::new();
    eventually("the node is down", || {
        let state = swarm.control().node("d1").unwrap().status.clone().unwrap().state();
        seen.push(state);
        state == State::Down
    })
    .await;
    assert!(!seen.contains(&State::Disconnected));
}

/// A Watch that acknowledges whatever it is told, at once.
fn acknowledging(node: &Member, mut watch: tonic::Streaming<WatchMessage>) -> tokio::task::JoinHandle<()> {
    let (mut client, session_id) = (node.network_state(), node.session_id.clone());
    tokio::spawn(async move {
        while let Ok(Some(message)) = watch.message().await {
            for network in &message.networks {
                let ack = AckRequest {
                    session_id: session_id.clone(),
                    index: message.index,
                    network_id: network.network_id.clone(),
                    error: String::new(),
                };
                // The network may have been left.
                let _ = client.ack(ack).await;
            }
        }
    })
}

fn handover(node: &Member, tasks: &[&Task], limit: Duration) -> HandoverRequest {
    HandoverRequest {
        session_id: node.session_id.clone(),
        task_ids: tasks.iter().map(|task| task.id.clone()).collect(),
        limit_ms: u32::try_from(limit.as_millis()).unwrap(),
    }
}

/// Who was missing, and how long it took.
async fn drain(node: &Member, tasks: &[&Task], limit: Duration) -> (Vec<String>, Duration) {
    let start = Instant::now();
    let answer = node.network_state().drain(handover(node, tasks, limit)).await.unwrap().into_inner();
    (answer.missing.into_iter().map(|node| node.hostname).collect(), start.elapsed())
}

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_once_all_nodes_of_the_network_have_acknowledged() {
    let swarm = Swarm::start().await;
    swarm.overlay("web").await;
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let c = swarm.weft_node("w3").await;
    let task = attach(&swarm, &a, "web").await;
    attach(&swarm, &b, "web").await;
    report(&a, "127.0.0.2", vec![endpoint(&task, "c1")]).await;
    report(&c, "127.0.0.4", vec![]).await;
    let quick = acknowledging(&b, b.watch().await);
    // The third is on no network of the task: it is not waited for, though it never watches.
    let mut times = Vec::new();
    for healthy in [false, true, false, true, false] {
        let changed = Endpoint { healthy, ..endpoint(&task, "c1") };
        report(&a, "127.0.0.2", vec![changed]).await;
        let (missing, took) = drain(&a, &[&task], LONG).await;
        assert_eq!(missing, [""; 0]);
        times.push(took);
    }
    times.sort();
    println!("a drain with one neighbour: median {:?}, worst {:?}", times[2], times[4]);
    assert!(times[2] < Duration::from_millis(200), "{times:?}");
    // Nothing changed since: it knows already.
    assert!(drain(&a, &[&task], LONG).await.1 < LONG);

    quick.abort();
    let mut notices = swarm.control().notices();
    report(&a, "127.0.0.2", vec![endpoint(&task, "c1")]).await;
    let (missing, took) = drain(&a, &[&task], SHORT).await;
    assert_eq!(missing, ["w2"]);
    assert!(took >= SHORT && took < LONG, "{took:?}");
    let Notice::Unacknowledged(notice) = notices.try_recv().unwrap();
    assert_eq!(
        (notice.node.id.clone(), notice.tasks, notice.turn),
        (b.id(), vec![task.id.clone()], Turn::Drain)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_ready_or_leaves_the_network_is_not_waited_for() {
    let swarm = Swarm::start().await;
    swarm.overlay("web").await;
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let task = attach(&swarm, &a, "web").await;
    let theirs = attach(&swarm, &b, "web").await;
    report(&a, "127.0.0.2", vec![endpoint(&task, "c1")]).await;
    let (_silent, ours) = (b.watch().await, [&task]);
    let (waited, ()) = tokio::join!(drain(&a, &ours, LONG), async {
        tokio::time::sleep(SHORT).await;
        b.detach(&theirs.id).await.unwrap();
    });
    assert_eq!(waited.0, [""; 0], "it has left the network");
    assert!(waited.1 >= SHORT && waited.1 < LONG, "{:?}", waited.1);

    attach(&swarm, &b, "web").await;
    let (waited, _) = tokio::join!(drain(&a, &ours, LONG), async {
        tokio::time::sleep(SHORT).await;
        let request = DepartRequest { session_id: b.session_id.clone() };
        b.network_state().depart(request).await.unwrap()
    });
    assert_eq!(waited.0, [""; 0], "it is down");
    assert!(waited.1 >= SHORT && waited.1 < LONG, "{:?}", waited.1);
    assert!(drain(&a, &[&task], LONG).await.1 < SHORT, "there is nobody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_node_is_given_the_time_of_gossip_where_tasks_end() {
    let swarm = Swarm::start().await;
    swarm.overlay("web").await;
    let (a, d) = (swarm.weft_node("w1").await, swarm.docker_node("d1").await);
    let task = attach(&swarm, &a, "web").await;
    assert!(drain(&a, &[&task], LONG).await.1 < SHORT, "it is not on the network");
    attach(&swarm, &d, "web").await;
    let (missing, took) = drain(&a, &[&task], LONG).await;
    assert_eq!(missing, [""; 0]);
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    assert!(drain(&a, &[&task], SHORT).await.1 < Duration::from_secs(2), "within the limit");
    let start = Instant::now();
    a.network_state().settle(handover(&a, &[&task], LONG)).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "who begins is not held up by Docker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_to_program_is_told_with_its_reason() {
    let swarm = Swarm::start().await;
    let web = swarm.overlay("web").await;
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let task = attach(&swarm, &a, "web").await;
    attach(&swarm, &b, "web").await;
    report(&a, "127.0.0.2", vec![endpoint(&task, "c1")]).await;
    let mut watch = b.watch().await;
    let told = next(&mut watch).await;
    let error = "no room for neighbours".to_owned();
    let ack =
        AckRequest { session_id: b.session_id.clone(), index: told.index, network_id: web.id.clone(), error };
    b.network_state().ack(ack.clone()).await.unwrap();
    let answer = a.network_state().settle(handover(&a, &[&task], SHORT)).await.unwrap().into_inner();
    assert_eq!(
        (answer.missing[0].node_id.clone(), answer.missing[0].error.as_str()),
        (b.id(), "no room for neighbours")
    );
    // It may still mend within the limit.
    let ours = [&task];
    let (waited, _) = tokio::join!(drain(&a, &ours, LONG), async {
        tokio::time::sleep(SHORT).await;
        b.network_state().ack(AckRequest { error: String::new(), ..ack }).await.unwrap()
    });
    assert_eq!(waited.0, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_tasks_of_others() {
    let swarm = Swarm::start().await;
    swarm.overlay("web").await;
    let (a, b) = (swarm.weft_node("w1").await, swarm.weft_node("w2").await);
    let task = attach(&swarm, &a, "web").await;
    let refused = b.network_state().drain(handover(&b, &[&task], SHORT)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut stale = handover(&a, &[&task], SHORT);
    stale.session_id = b.session_id.clone();
    assert_eq!(a.network_state().settle(stale).await.unwrap_err().message(), "session invalid");
    let unknown = Task { id: "unknown".to_owned(), ..Task::default() };
    assert_eq!(drain(&a, &[&unknown], LONG).await.0, [""; 0]);
}
