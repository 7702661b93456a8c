use proptest::prelude::*;
use weft_wire::swarmkit::{Annotations, Driver, Network, NetworkAttachment};

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

fn told(serving: &[&str], present: &[&str]) -> Told {
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    Told { serving: set(serving), present: set(present) }
}

fn on(driver: &str, addresses: &[&str]) -> NetworkAttachment {
    let driver_state = Some(Driver { name: driver.to_owned(), ..Driver::default() });
    NetworkAttachment {
        network: Some(Network { driver_state, ..Network::default() }),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        ..NetworkAttachment::default()
    }
}

fn labelled(value: Option<&str>) -> Task {
    let labels = value.map(|value| (LIMIT_LABEL.to_owned(), value.to_owned()));
    let annotations = Annotations { labels: labels.into_iter().collect(), ..Annotations::default() };
    Task { service_annotations: Some(annotations), ..Task::default() }
}

/// Turn, limit and tasks of each batch.
fn seen(batches: &[Batch]) -> Vec<(Turn, Duration, Vec<String>)> {
    let of = |batch: &Batch| {
        assert!(!batch.waiting.is_empty());
        (batch.turn, batch.limit, batch.waiting.iter().map(|one| one.task.clone()).collect())
    };
    batches.iter().map(of).collect()
}

#[test]
fn a_task_is_asked_about_once_the_managers_have_its_turn() {
    let told = told(&["runs", "no endpoint"], &["runs", "ends"]);
    assert!(told.has(Turn::Settle, "runs") && !told.has(Turn::Drain, "runs"));
    assert!(told.has(Turn::Drain, "ends") && !told.has(Turn::Settle, "ends"));
    assert!(!told.has(Turn::Settle, "no endpoint"), "nobody could know where it is");
    assert!(told.has(Turn::Drain, "gone"));
}

#[test]
fn those_that_are_ready_are_asked_about_together() {
    let handovers = Handovers::new(LIMIT);
    let _a = handovers.ask(Turn::Drain, "a", LIMIT);
    let _b = handovers.ask(Turn::Drain, "b", LIMIT);
    let _c = handovers.ask(Turn::Settle, "c", LIMIT);
    let _d = handovers.ask(Turn::Drain, "d", Duration::from_secs(1));
    let later = handovers.ask(Turn::Drain, "later", LIMIT);
    drop(handovers.ask(Turn::Drain, "gave up", LIMIT));
    let batches = handovers.take(|_, task| task != "later");
    let second = Duration::from_secs(1);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let want = [
        (Turn::Settle, LIMIT, names(&["c"])),
        (Turn::Drain, second, names(&["d"])),
        (Turn::Drain, LIMIT, names(&["a", "b"])),
    ];
    assert_eq!(seen(&batches), want);
    assert_eq!(seen(&handovers.take(|_, _| true)), [(Turn::Drain, LIMIT, names(&["later"]))]);
    drop(later);
    assert!(handovers.take(|_, _| true).is_empty());
}

#[tokio::test]
async fn a_session_that_ends_gives_the_wait_back() {
    let handovers = Handovers::new(LIMIT);
    let answered = handovers.ask(Turn::Drain, "a", LIMIT);
    drop(handovers.take(|_, _| true));
    assert!(answered.await.is_err(), "ask again");
    let answered = handovers.ask(Turn::Drain, "a", LIMIT);
    handovers.take(|_, _| true).into_iter().for_each(answer_all);
    assert!(answered.await.is_ok());
}

#[test]
fn tasks_on_overlays_are_reachable() {
    let task = |networks| Task { networks, ..Task::default() };
    assert!(!is_reachable(&task(vec![])));
    assert!(!is_reachable(&task(vec![on("host", &[]), on("bridge", &["172.17.0.2/16"])])));
    assert!(!is_reachable(&task(vec![on("overlay", &[])])));
    assert!(is_reachable(&task(vec![on("host", &[]), on("overlay", &["10.0.1.3/24"])])));
}

#[test]
fn a_service_may_have_a_limit_of_its_own() {
    assert_eq!(limit_of(&Task::default(), LIMIT), LIMIT);
    assert_eq!(limit_of(&labelled(None), LIMIT), LIMIT);
    assert_eq!(limit_of(&labelled(Some("250ms")), LIMIT), Duration::from_millis(250));
    assert_eq!(limit_of(&labelled(Some("0")), LIMIT), Duration::ZERO);
    assert_eq!(limit_of(&labelled(Some("1h")), LIMIT), MAX_LIMIT);
    assert_eq!(limit_of(&labelled(Some("soon")), LIMIT), LIMIT);
}

proptest! {
    /// Whoever waits is in exactly one batch, with those of its kind only.
    #[test]
    fn everybody_is_in_one_batch(asked in prop::collection::vec((any::<bool>(), 0u64..3), 0..20)) {
        let handovers = Handovers::new(LIMIT);
        let mut answers = Vec::new();
        for (number, (drains, limit)) in asked.iter().enumerate() {
            let turn = if *drains { Turn::Drain } else { Turn::Settle };
            answers.push(handovers.ask(turn, &number.to_string(), Duration::from_secs(*limit)));
        }
        let batches = handovers.take(|_, _| true);
        let mut seen = 0;
        for batch in &batches {
            for one in &batch.waiting {
                prop_assert_eq!((one.turn, one.limit), (batch.turn, batch.limit));
                seen += 1;
            }
        }
        prop_assert_eq!(seen, asked.len());
        let kinds: BTreeSet<_> = batches.iter().map(|batch| (batch.turn, batch.limit)).collect();
        prop_assert_eq!(kinds.len(), batches.len());
        prop_assert!(handovers.take(|_, _| true).is_empty());
    }
}
