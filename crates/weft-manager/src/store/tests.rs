//! Applying is deterministic; claims are unique; a refused transaction leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use weft_wire::swarmkit::{Network, NetworkAttachment, Node, Task};

use super::*;

/// A small world: few ids and few things to claim, so that everything collides.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    /// With the current version, or one that is off by this much.
    Update(u8, u8),
    Remove(u8, u8),
    Claim(u8, u8),
    Release(u8),
    Require(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..6).prop_map(Step::Create),
        (0u8..6, prop_oneof![9 => Just(0u8), 1 => Just(1u8)]).prop_map(|(id, off)| Step::Update(id, off)),
        (0u8..6, prop_oneof![9 => Just(0u8), 1 => Just(1u8)]).prop_map(|(id, off)| Step::Remove(id, off)),
        (0u8..6, 0u8..9).prop_map(|(id, claim)| Step::Claim(id, claim)),
        (0u8..9).prop_map(Step::Release),
        (0u8..6, prop_oneof![9 => Just(0u8), 1 => Just(1u8)]).prop_map(|(id, off)| Step::Require(id, off)),
    ]
}

fn kind(id: u8) -> ObjectKind {
    [ObjectKind::Node, ObjectKind::Network, ObjectKind::Task][usize::from(id) % 3]
}

fn object(id: u8) -> Object {
    let text = format!("o{id}");
    match kind(id) {
        ObjectKind::Node => Node { id: text, ..Default::default() }.into(),
        ObjectKind::Network => Network { id: text, ..Default::default() }.into(),
        _ => Task {
            id: text,
            node_id: "o0".to_owned(),
            networks: vec![NetworkAttachment {
                network: Some(Network { id: "o1".to_owned(), ..Default::default() }),
                ..Default::default()
            }],
            ..Default::default()
        }
        .into(),
    }
}

fn claim(number: u8) -> Claim {
    match number {
        0..3 => Claim::Vni(u32::from(number)),
        3 => Claim::Subnet("10.0.0.0/16".parse().unwrap()),
        4 => Claim::Subnet("10.0.1.0/24".parse().unwrap()),
        5 => Claim::Subnet("10.1.0.0/24".parse().unwrap()),
        6 => Claim::network_name("Web"),
        _ => {
            Claim::Address { network: "o1".to_owned(), address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)) }
        }
    }
}

fn transaction(view: &View, steps: &[Step], time: u64) -> Transaction {
    let mut transaction = Transaction::new(SystemTime::UNIX_EPOCH + Duration::from_secs(time));
    let version = |id: u8| view.object(kind(id), &format!("o{id}")).map_or(0, |object| object.version());
    for step in steps {
        match step {
            Step::Create(id) => drop(transaction.create(object(*id))),
            Step::Update(id, off) => {
                let meta = weft_wire::swarmkit::Meta {
                    version: Some(weft_wire::swarmkit::Version { index: version(*id) + u64::from(*off) }),
                    ..Default::default()
                };
                transaction.update(object(*id).with_meta(meta));
            }
            Step::Remove(id, off) => {
                transaction.remove(kind(*id), &format!("o{id}"), version(*id) + u64::from(*off));
            }
            Step::Claim(id, number) => drop(transaction.claim(&claim(*number), &format!("o{id}"))),
            Step::Release(number) => drop(transaction.release(&claim(*number))),
            Step::Require(id, off) => {
                transaction.require(kind(*id), &format!("o{id}"), version(*id) + u64::from(*off));
            }
        }
    }
    transaction
}

fn check_claims(view: &View) {
    let claims: Vec<(&Claim, &str)> = view.claims().iter().collect();
    let unique: BTreeSet<&Claim> = claims.iter().map(|(claim, _)| *claim).collect();
    assert_eq!(unique.len(), claims.len());
    let subnets: Vec<_> = view.subnets().map(|(subnet, _)| *subnet).collect();
    for (at, a) in subnets.iter().enumerate() {
        for b in &subnets[..at] {
            assert!(!a.contains(b) && !b.contains(a), "{a} and {b} overlap");
        }
    }
    let mut by_holder: BTreeMap<&str, BTreeSet<&Claim>> = BTreeMap::new();
    for (claim, holder) in claims {
        by_holder.entry(holder).or_default().insert(claim);
    }
    for (holder, held) in by_holder {
        assert_eq!(view.held_by(holder).collect::<BTreeSet<_>>(), held);
    }
}

fn check_indexes(view: &View) {
    let tasks: BTreeSet<_> = view.tasks().map(|task| task.id.clone()).collect();
    let indexed: BTreeSet<_> = view.tasks_of_node("o0").map(|task| task.id.clone()).collect();
    assert_eq!(tasks, indexed);
    let indexed: BTreeSet<_> = view.tasks_of_network("o1").map(|task| task.id.clone()).collect();
    assert_eq!(tasks, indexed);
    for object in view.objects() {
        assert!((1..=view.index()).contains(&object.version()));
    }
}

proptest! {
    #[test]
    fn equal_logs_give_equal_states_and_refusals_change_nothing(
        log in proptest::collection::vec(proptest::collection::vec(step(), 1..5), 1..40)
    ) {
        let (mut one, mut two) = (View::default(), View::default());
        for (number, steps) in log.iter().enumerate() {
            let index = number as u64 + 1;
            let command = transaction(&one, steps, index).encode();
            let before = one.clone();
            let first = apply::apply(&mut one, index, &command);
            let second = apply::apply(&mut two, index, &command);
            prop_assert_eq!(first.is_ok(), second.is_ok());
            prop_assert_eq!(&one, &two);
            match first {
                Ok(changes) => {
                    prop_assert_eq!(one.index(), index);
                    for change in changes {
                        prop_assert!(change.before.is_some() || change.after.is_some());
                        if let Some(after) = change.after {
                            prop_assert_eq!(after.version(), index);
                        }
                    }
                }
                Err(_) => prop_assert_eq!(&one, &before),
            }
            check_claims(&one);
            check_indexes(&one);
        }
    }

    #[test]
    fn arbitrary_commands_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut view = View::default();
        let _ = apply::apply(&mut view, 1, &bytes);
    }

    #[test]
    fn damaged_commands_never_panic_and_never_half_apply(
        steps in proptest::collection::vec(step(), 1..6),
        at in any::<proptest::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut view = View::default();
        let setup: Vec<Step> = (0..3).map(Step::Create).collect();
        let command = transaction(&view, &setup, 1).encode();
        apply::apply(&mut view, 1, &command).unwrap();
        let mut bytes = transaction(&view, &steps, 2).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let before = view.clone();
        if apply::apply(&mut view, 2, &bytes).is_err() {
            prop_assert_eq!(view, before);
        } else {
            // It may have become another good command: of other objects, but whole.
            check_claims(&view);
        }
    }

    #[test]
    fn claims_come_back_from_text(number in 0u8..9) {
        let claim = claim(number);
        prop_assert_eq!(Claim::from_text(&claim.to_text()), Some(claim));
    }

    #[test]
    fn arbitrary_claims_never_panic(text: String) {
        let _ = Claim::from_text(&text);
    }
}

#[test]
fn a_network_stays_while_others_hold_its_addresses() {
    let mut view = View::default();
    let mut made = Transaction::new(SystemTime::UNIX_EPOCH);
    made.create(object(1)).create(object(2)).claim(&claim(7), "o2").claim(&claim(8), "o1");
    apply::apply(&mut view, 1, &made.encode()).unwrap();
    let mut removed = Transaction::new(SystemTime::UNIX_EPOCH);
    removed.remove(ObjectKind::Network, "o1", 1);
    assert!(matches!(apply::apply(&mut view, 2, &removed.encode()), Err(Refusal::Taken { .. })));
    let mut freed = Transaction::new(SystemTime::UNIX_EPOCH);
    freed.remove(ObjectKind::Task, "o2", 1).remove(ObjectKind::Network, "o1", 1);
    apply::apply(&mut view, 2, &freed.encode()).unwrap();
    assert_eq!(view.claims().iter().count(), 0);
}
