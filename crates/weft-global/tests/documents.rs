//! What stands in the store: read whatever it is, and read again what was written.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use proptest::prelude::*;
use weft_global::{AddressBook, Document, EndpointRecord, NetworkBook, Outlook, keys};
use weft_types::{EndpointId, NetworkId};

use common::{addresses, book_with, endpoint, object, spec, task};

/// Well-formed documents of each kind.
fn samples() -> [(String, Vec<u8>); 3] {
    let (book, id) = book_with(&spec("web", &["10.9.0.0/24", "fd00:9::/64"]));
    let mut addresses = addresses();
    addresses.claim(&object(&book, &id), &common::holder("h:1", 1), &[], None).unwrap();
    let local = endpoint(&id, 1, "10.9.0.2/24");
    let record = EndpointRecord::of(&local, "10.0.0.1:2375", "10.0.0.1".parse().unwrap());
    [
        (keys::NETWORKS.to_owned(), book.encode()),
        (keys::addresses(&id), addresses.encode()),
        (keys::endpoint(&id, &local.id), record.encode()),
    ]
}

fn reads(key: &str, bytes: &[u8]) -> bool {
    Outlook::default().put(key, bytes).is_ok()
}

#[test]
fn what_is_written_is_read() {
    for (key, bytes) in samples() {
        assert!(reads(&key, &bytes), "{key}");
    }
    let (book, _) = book_with(&spec("web", &[]));
    assert_eq!(NetworkBook::decode(&book.encode()), Ok(book));
}

#[test]
fn documents_of_another_form_are_left_alone() {
    for (key, bytes) in samples() {
        let text = String::from_utf8(bytes).unwrap().replacen("\"format\":1", "\"format\":2", 1);
        let error = Outlook::default().put(&key, text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "it is in form 2; this version of Weft reads form 1");
    }
    assert!(!reads("weft/v1/notes", b"{}") && !reads("weft/v1/addresses/short", b"{}"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (key, _) in samples() {
            reads(&key, &bytes);
        }
    }

    /// Nearly right is worse than noise.
    #[test]
    fn damaged_documents_are_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        for (key, mut bytes) in samples() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            reads(&key, &bytes);
        }
    }

    #[test]
    fn any_key_is_understood_or_not(key in "(weft/v1/)?[a-z0-9/]{0,90}") {
        keys::held(&key);
    }

    #[test]
    fn keys_are_read_as_they_are_written(seed in any::<u64>()) {
        use rand::SeedableRng as _;
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let (network, endpoint) = (NetworkId::random_local(&mut rng), EndpointId::random(&mut rng));
        prop_assert_eq!(keys::held(&keys::addresses(&network)), Some(keys::Held::Addresses(network.clone())));
        let held = keys::held(&keys::endpoint(&network, &endpoint));
        prop_assert_eq!(held, Some(keys::Held::Endpoint(network, endpoint)));
    }

    #[test]
    fn books_of_addresses_are_read_as_they_are_written(claims in proptest::collection::vec(0..9u8, 0..20)) {
        let (book, id) = book_with(&spec("web", &["10.9.0.0/28"]));
        let mut addresses = addresses();
        for n in claims {
            let _ = addresses.claim(&object(&book, &id), &common::holder("h:1", n), &[], None);
        }
        prop_assert!(addresses.held().all(|(_, holder)| addresses.has(&holder.attachment)));
        prop_assert_eq!(AddressBook::decode(&addresses.encode()), Ok(addresses));
        prop_assert!(task(1) != task(2));
    }
}
