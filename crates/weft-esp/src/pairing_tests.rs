use proptest::prelude::*;

use super::*;

fn way() -> Way {
    Way { from: "192.0.2.1".parse().unwrap(), to: "192.0.2.2".parse().unwrap() }
}

fn side(fill: u8) -> Side {
    Side::new(&Fresh { private: [fill; 32], spi: u32::from(fill) })
}

fn key() -> ManagerKey {
    ManagerKey::new(7, vec![5; 16])
}

#[test]
fn both_sides_come_to_the_same_keys_and_other_pairings_to_others() {
    let (asking, answering) = (side(1), side(2));
    let question = asking.question(way(), &key());
    let answer = answering.answer(way().back(), &key(), &question);
    let a = asking.keys(way(), &key(), &question, &answer).unwrap();
    let b = answering.keys(way(), &key(), &question, &answer).unwrap();
    assert_eq!((a.send.0, a.receive.0), (b.receive.0, b.send.0));
    assert_ne!(a.send.0, a.receive.0);
    let again = side(3).answer(way().back(), &key(), &question);
    assert_ne!(asking.keys(way(), &key(), &question, &again).unwrap().send.0, a.send.0);
    let other = ManagerKey::new(7, vec![6; 16]);
    assert_ne!(asking.keys(way(), &other, &question, &answer).unwrap().send.0, a.send.0);
}

#[test]
fn only_who_has_the_key_takes_part_and_an_answer_fits_one_question() {
    let question = side(1).question(way(), &key());
    assert!(question.is_authentic(way(), &key(), None));
    assert!(!question.is_authentic(way().back(), &key(), None));
    assert!(!question.is_authentic(way(), &ManagerKey::new(7, vec![6; 16]), None));
    let answer = side(2).answer(way().back(), &key(), &question);
    assert!(answer.is_authentic(way().back(), &key(), Some(&question)));
    let other = side(4).question(way(), &key());
    assert!(!answer.is_authentic(way().back(), &key(), Some(&other)));
}

#[test]
fn a_public_key_without_secret_is_refused() {
    let question = side(1).question(way(), &key());
    let mut answer = side(2).answer(way().back(), &key(), &question);
    answer.public = [0; 32];
    assert!(matches!(side(1).keys(way(), &key(), &question, &answer), Err(Refused::Malformed)));
}

#[test]
fn keys_are_never_shown() {
    let shown = format!(
        "{:?} {:?}",
        key(),
        side(1).keys(
            way(),
            &key(),
            &side(1).question(way(), &key()),
            &side(2).answer(way().back(), &key(), &side(1).question(way(), &key()))
        )
    );
    assert!(!shown.contains("5, 5"), "{shown}");
}

proptest! {
    #[test]
    fn a_message_reads_as_it_was_written(fill in 1u8.., tag: u64) {
        let key = ManagerKey::new(tag, vec![1; 16]);
        let question = side(fill).question(way(), &key);
        prop_assert_eq!(Message::parse(&question.bytes), Ok(question));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(message) = Message::parse(&bytes) {
            prop_assert!(!message.is_authentic(way(), &key(), None));
        }
    }

    #[test]
    fn an_altered_message_is_not_authentic(at in 0usize..LEN, bit in 0u8..8) {
        let mut bytes = side(1).question(way(), &key()).bytes;
        bytes[at] ^= 1 << bit;
        let taken = Message::parse(&bytes).is_ok_and(|message| {
            message.tag == key().tag() && message.kind == Kind::Question && message.is_authentic(way(), &key(), None)
        });
        prop_assert!(!taken);
    }
}
