//! Several managers: one state, one leader, nothing acknowledged is lost.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::time::Duration;

use common::managers::*;
use common::*;
use tokio::time::Instant;
use weft_identity::{ChannelMode, IdentityHandle, NodeRole as Role, bootstrap, channel, renew};
use weft_manager::{Control, Manager, Timing};
use weft_wire::swarmkit::dispatcher_client::DispatcherClient;
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::*;

/// Often enough that images and purges happen.
fn short_log() -> Timing {
    Timing { snapshot_interval: 15, log_entries_kept: 3, ..fast() }
}

const NO_LEADER: &str = "The swarm does not have a leader.";

#[tokio::test(flavor = "multi_thread")]
async fn three_managers_share_one_state_and_each_takes_changes() {
    let managers = Managers::start(3).await;
    for (at, seat) in managers.0.iter().enumerate() {
        seat.control().create_network(overlay_spec(&format!("net{at}"))).await.unwrap();
    }
    for seat in &managers.0 {
        let control = seat.control();
        control.barrier().await.unwrap();
        assert_eq!(control.networks().len(), 6, "ingress, bridge and host, and ours");
        for (at, other) in managers.0.iter().enumerate() {
            eventually("the managers are listed", || status(&control, &other.id()) == Some((at == 0, true)))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_leader_goes() {
    let mut managers = Managers::with(3, short_log()).await;
    let leader = managers.leader().await;
    let writers: Vec<_> = (0..3)
        .filter(|at| *at != leader)
        .map(|at| tokio::spawn(write_for(managers.0[at].control(), at, Duration::from_secs(8))))
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    managers.0[leader].stop().await;
    let lost = Instant::now();
    managers.leader().await;
    let election = lost.elapsed();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(election < Duration::from_secs(3), "electing took {election:?}");
    managers.0[leader].restart().await;
    for seat in &managers.0 {
        seat.control().barrier().await.unwrap();
        for name in &acknowledged {
            assert!(seat.control().network(name).is_ok(), "{name} was acknowledged and is gone");
        }
    }
    let after = acknowledged.iter().filter(|name| name.ends_with("late")).count();
    assert!(after > 0, "nothing was written under the new leader");
}

async fn write_for(control: Control, writer: usize, time: Duration) -> Vec<String> {
    let (begin, mut acknowledged) = (Instant::now(), Vec::new());
    let mut number = 0;
    while begin.elapsed() < time {
        number += 1;
        let age = if begin.elapsed() > Duration::from_secs(6) { "late" } else { "early" };
        let name = format!("w{writer}n{number}{age}");
        let asked = Instant::now();
        if control.create_network(overlay_spec(&name)).await.is_ok() {
            acknowledged.push(name);
        }
        assert!(asked.elapsed() < Duration::from_secs(15), "a write hung");
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_refuses_reads_and_writes_in_dockers_words_and_soon() {
    let mut managers = Managers::start(3).await;
    let stays = managers.follower().await;
    for at in (0..3).filter(|at| *at != stays) {
        managers.0[at].stop().await;
    }
    let control = managers.0[stays].control();
    eventually("the lost leader is noticed", || !managers.0[stays].manager().has_leader()).await;
    let asked = Instant::now();
    let refused = control.create_network(overlay_spec("never")).await.unwrap_err();
    assert!(refused.to_string().contains(NO_LEADER), "{refused}");
    assert!(control.barrier().await.unwrap_err().to_string().contains(NO_LEADER));
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());

    // One more is a majority again, at another port than it had.
    let back = (0..3).find(|at| *at != stays).unwrap();
    managers.0[back].restart().await;
    managers.leader().await;
    let control = managers.0[stays].control();
    control.create_network(overlay_spec("again")).await.unwrap();
    assert!(control.network("never").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_long_is_caught_up_by_a_snapshot() {
    let mut managers = Managers::with(3, short_log()).await;
    let away = managers.follower().await;
    managers.0[away].stop().await;
    let writer = managers.leader().await;
    let control = managers.0[writer].control();
    for number in 0..60 {
        control.create_network(overlay_spec(&format!("net{number}"))).await.unwrap();
    }
    control.remove_network("net7").await.unwrap();
    managers.0[away].restart().await;
    let caught_up = managers.0[away].control();
    let mut events = caught_up.events();
    caught_up.barrier().await.unwrap();
    let (there, here) = (control.view(), caught_up.view());
    assert_eq!(there.networks().collect::<Vec<_>>(), here.networks().collect::<Vec<_>>());
    assert!(here.network_named("net7").is_none());
    for network in there.networks() {
        let held = |view: &weft_manager::View| view.held_by(&network.id).cloned().collect::<Vec<_>>();
        assert_eq!(held(&there), held(&here));
    }
    // Watchers saw the leap.
    let mut seen = 0;
    while let Ok(commit) = events.try_recv() {
        seen += commit.changes.len();
    }
    assert!(seen > 0 || here.networks().count() > 60);
    // A manager that joins now gets everything at once.
    let new = managers.join().await;
    assert_eq!(managers.0[new].control().networks().len(), control.networks().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn demotion_takes_a_manager_out_and_promotion_brings_it_back() {
    let mut managers = Managers::start(3).await;
    let (leader, at) = (managers.leader().await, managers.follower().await);
    let control = managers.0[leader].control();
    let id = managers.0[at].id();
    let refused = control.remove_node(&id, true).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "rpc error: code = FailedPrecondition desc = node {id} is a cluster manager and is a member of the raft \
             cluster. It must be demoted to worker before removal"
        )
    );
    set_role(&control, &id, NodeRole::Worker).await.unwrap();
    eventually("it is out", || {
        let node = control.node(&id).unwrap();
        node.manager_status.is_none() && node.role() == NodeRole::Worker
    })
    .await;
    // As its daemon does: renew as worker, stop the manager, erase its store.
    let channel = channel(managers.0[leader].address(), ChannelMode::Node(&managers.0[at].identity)).unwrap();
    renew(&managers.0[at].identity, channel.clone()).await.unwrap();
    assert_eq!(managers.0[at].identity.identity().role, Role::Worker);
    managers.0[at].stop().await;
    Manager::erase(&managers.0[at].config().state_dir).unwrap();
    control.create_network(overlay_spec("without-it")).await.unwrap();

    set_role(&control, &id, NodeRole::Manager).await.unwrap();
    eventually("it may be a manager", || control.node(&id).unwrap().role() == NodeRole::Manager).await;
    renew(&managers.0[at].identity, channel).await.unwrap();
    assert_eq!(managers.0[at].identity.identity().role, Role::Manager);
    let remote = managers.0[leader].address();
    // Its daemon looks for a store first; that there is none must not stand in the way of what follows.
    let none = Manager::open(managers.0[at].config(), managers.0[at].identity.clone()).await;
    assert!(matches!(none, Err(weft_manager::ManagerError::NoSwarm(_))));
    let again =
        Manager::join(managers.0[at].config(), managers.0[at].identity.clone(), &[remote]).await.unwrap();
    managers.0[at].manager = Some(again);
    assert!(managers.0[at].control().network("without-it").is_ok());
    eventually("it is listed", || status(&control, &id) == Some((false, true))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_itself_can_be_demoted() {
    let managers = Managers::start(3).await;
    let leader = managers.leader().await;
    let id = managers.0[leader].id();
    set_role(&managers.0[leader].control(), &id, NodeRole::Worker).await.unwrap();
    let other = managers.0[(leader + 1) % 3].control();
    eventually("another one leads without it", || {
        let node = other.node(&id).unwrap();
        node.manager_status.is_none() && node.role() == NodeRole::Worker
    })
    .await;
    other.create_network(overlay_spec("after")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_cost_the_quorum_is_refused() {
    let mut managers = Managers::start(3).await;
    let gone = managers.follower().await;
    managers.0[gone].stop().await;
    let leader = managers.leader().await;
    let control = managers.0[leader].control();
    eventually("the lost one is noticed", || {
        status(&control, &managers.0[gone].id()) == Some((false, false))
    })
    .await;
    let other = (0..3).find(|at| *at != gone && *at != leader).unwrap();
    let refused = set_role(&control, &managers.0[other].id(), NodeRole::Worker).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rpc error: code = FailedPrecondition desc = can't remove member from the raft: this would result in a loss \
         of quorum"
    );
    // The lost one may go, and then only two are counted.
    set_role(&control, &managers.0[gone].id(), NodeRole::Worker).await.unwrap();
    eventually("it is out", || status(&control, &managers.0[gone].id()).is_none()).await;

    let single = Managers::start(1).await;
    let refused = set_role(&single.0[0].control(), &single.0[0].id(), NodeRole::Worker).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_leaves_is_no_longer_counted() {
    let mut managers = Managers::start(3).await;
    let leader = managers.leader().await;
    let id = managers.0[leader].id();
    // The leader: it hands its office over first.
    managers.0[leader].manager().leave().await;
    managers.0[leader].stop().await;
    let control = managers.running().next().unwrap().control();
    eventually("it is not counted", || status(&control, &id).is_none()).await;
    // Two are left, so both are needed, and both are there.
    control.create_network(overlay_spec("two")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_manager_answers_nodes() {
    let mut managers = Managers::start(3).await;
    let (leader, over) = (managers.leader().await, managers.follower().await);
    let address = managers.0[over].address();
    let identity = bootstrap(address, &managers.worker_token(), Availability::Active).await.unwrap();
    let identity = IdentityHandle::in_memory(identity).unwrap();
    let id = identity.identity().node_id.to_string();
    let connection = channel(address, ChannelMode::Node(&identity)).unwrap();
    let request = SessionRequest { description: Some(describe("w1", "weft")), ..Default::default() };
    let mut session =
        DispatcherClient::new(connection.clone()).session(request.clone()).await.unwrap().into_inner();
    let first = next(&mut session).await;
    let told: Vec<String> = first.managers.iter().map(|it| it.peer.clone().unwrap().addr).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(first.node.unwrap().id, id);
    let beat = HeartbeatRequest { session_id: first.session_id.clone() };
    DispatcherClient::new(connection.clone()).heartbeat(beat).await.unwrap();
    let control = managers.0[over].control();
    eventually("it is ready", || {
        let node = control.node(&id).unwrap();
        node.status.as_ref().is_some_and(|status| status.state() == node_status::State::Ready)
    })
    .await;
    // A node cannot speak for another one.
    let mut forged = tonic::Request::new(SessionRequest::default());
    for (name, value) in [
        ("weft-forwarded-node", managers.0[leader].id()),
        ("weft-forwarded-swarm", identity.identity().swarm_id.to_string()),
        ("weft-forwarded-role", "swarm-manager".to_owned()),
        ("weft-forwarded-remote", "10.0.0.1:1".to_owned()),
    ] {
        forged.metadata_mut().insert(name, value.parse().unwrap());
    }
    let refused = DispatcherClient::new(connection.clone()).session(forged).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);

    // The leader goes: the session ends, and a new one opens over the same manager with the next leader.
    managers.0[leader].stop().await;
    let ended = tokio::time::timeout(DEADLINE, async {
        while session.message().await.is_ok_and(|it| it.is_some()) {}
    });
    ended.await.unwrap();
    managers.leader().await;
    let mut session = DispatcherClient::new(connection).session(request).await.unwrap().into_inner();
    assert_eq!(next(&mut session).await.node.unwrap().id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_majority_is_given_up_by_force() {
    let mut managers = Managers::start(3).await;
    let keeps = managers.follower().await;
    let control = managers.0[keeps].control();
    control.create_network(overlay_spec("kept")).await.unwrap();
    let subnet = control.network("kept").unwrap().ipam.clone().unwrap().configs[0].subnet.clone();
    let keys = control.cluster().network_bootstrap_keys.clone();
    for seat in &mut managers.0 {
        seat.stop().await;
    }
    let seat = &mut managers.0[keeps];
    let manager = Manager::open_alone(seat.config(), seat.identity.clone()).await.unwrap();
    drop(manager.serve(seat.identity.clone()));
    seat.manager = Some(manager);
    let control = seat.control();
    assert_eq!(control.network("kept").unwrap().ipam.clone().unwrap().configs[0].subnet, subnet);
    assert_eq!(control.cluster().network_bootstrap_keys, keys);
    control.create_network(overlay_spec("new")).await.unwrap();
    assert_eq!(control.nodes().iter().filter(|node| node.manager_status.is_some()).count(), 1);
    // The old majority is another group now: neither hears the other.
    for at in (0..3).filter(|at| *at != keeps) {
        managers.0[at].restart().await;
    }
    let old = (0..3).find(|at| *at != keeps).unwrap();
    managers.leader().await;
    let control = managers.0[keeps].control();
    for number in 0..5 {
        control.create_network(overlay_spec(&format!("more{number}"))).await.unwrap();
    }
    assert!(managers.0[old].control().network("new").is_err());
    for at in (0..3).filter(|at| *at != keeps) {
        managers.0[at].stop().await;
    }
    // And a new manager can join.
    let new = managers.join().await;
    assert!(managers.0[new].control().network("new").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_every_manager_has_them() {
    let timing = Timing { key_rotation: Duration::from_millis(300), ..fast() };
    let managers = Managers::with(2, timing).await;
    let control = managers.0[1].control();
    let first = control.cluster().encryption_key_lamport_clock;
    eventually("three rotations", || control.cluster().encryption_key_lamport_clock >= first + 6).await;
    let keys = control.cluster().network_bootstrap_keys.clone();
    assert_eq!(keys.len(), 6);
    assert!(keys.iter().all(|key| key.lamport_time > first.saturating_sub(6)));
}
