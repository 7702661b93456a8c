//! Receive packet steering of an interface in a namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use weft_kernel::{Kernel, Netns, Steering, all_processors, same_processors};
use weft_plan::{Link, LinkKind, LinkName, NamespaceState, VethPeer};

#[tokio::test]
async fn queues_are_steered_and_given_back_in_their_namespace() {
    let (here, there) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let kernel = Kernel::open(here.clone()).await.unwrap();
    let name: LinkName = "data0".parse().unwrap();
    let peer = VethPeer::plain(there.reference(), name.clone());
    let mut state = NamespaceState::empty();
    state.links.insert(name.clone(), Link::new(LinkKind::Veth(Some(peer))));
    kernel.reconcile(&state).await.unwrap();

    let before = here.steering(&name).unwrap();
    assert!(before.values().all(|processors| same_processors(processors, "0")), "{before:?}");
    let all = all_processors().unwrap();
    let queue = before.keys().next().unwrap().clone();
    let want = Steering::from([(queue.clone(), all.clone()), ("rx-900".to_owned(), all.clone())]);
    here.set_steering(&name, &want).unwrap();
    assert!(same_processors(&here.steering(&name).unwrap()[&queue], &all));
    // The other namespace has an interface of this name, too.
    assert!(same_processors(&there.steering(&name).unwrap()[&queue], "0"));
    here.set_steering(&name, &before).unwrap();
    assert_eq!(here.steering(&name).unwrap(), before);
    let missing = here.steering(&"none0".parse().unwrap()).unwrap_err();
    assert_eq!(missing.to_string(), "processors of the receive queues of none0");
}
