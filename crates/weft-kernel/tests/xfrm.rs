//! The kernel's ESP between two namespaces. `cargo xtask test vm` runs them where this machine's kernel has none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::{Host, PORT, hosts};
use weft_kernel::{EspPolicy, EspState, StateId, Way, Xfrm, take_esp_in_udp};
use weft_plan::SourcePorts;

const ESP_PORT: u16 = 4500;
const WINDOW: u32 = 1984;

fn bound(host: &Host, port: u16) -> UdpSocket {
    let address = SocketAddr::new(host.address, port);
    let socket = host.netns.run_in(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

fn state<'a>(from: &Host, to: &Host, key: &'a [u8], spi: u32) -> EspState<'a> {
    let id = StateId { to: to.address, spi };
    EspState { id, from: from.address, key, icv_len: 16, window: WINDOW, encapsulation: Some(ESP_PORT) }
}

fn comes(sender: &UdpSocket, receiver: &UdpSocket) -> bool {
    // What a policy forbids is refused at once.
    let _ = sender.send_to(b"hello", receiver.local_addr().unwrap());
    let mut buffer = [0; 16];
    receiver.recv(&mut buffer).is_ok_and(|len| &buffer[..len] == b"hello")
}

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn the_kernel_encrypts_what_may_not_leave_otherwise() {
    assert!(Xfrm::probe().unwrap(), "this kernel's ESP has all that is needed");
    let (hosts, _switch) = hosts(2);
    let [a, b] = hosts.as_slice() else { panic!("two hosts") };
    let [mut at_a, mut at_b] = [a, b].map(|host| Xfrm::open(&host.netns).unwrap());
    let esp = [a, b].map(|host| bound(host, ESP_PORT));
    esp.iter().for_each(|socket| take_esp_in_udp(socket).unwrap());
    let (encrypted, open) = (bound(a, SourcePorts::ENCRYPTED_SPARE), bound(a, 50_000));
    let receiver = bound(b, PORT);
    assert!(comes(&encrypted, &receiver), "nothing is forbidden yet");

    at_a.forbid(PORT).unwrap();
    at_a.forbid(PORT).unwrap();
    assert!(!comes(&encrypted, &receiver) && comes(&open, &receiver));
    let key = [7; 20];
    at_a.add_state(&EspState { window: 0, ..state(a, b, &key, 4711) }).unwrap();
    at_b.add_state(&state(a, b, &key, 4711)).unwrap();
    let way = Way::between(a.address, b.address, PORT);
    let allowed = EspPolicy { way, by: Some(StateId { to: b.address, spi: 4711 }) };
    at_a.set_policy(&allowed).unwrap();
    for _ in 0..3 {
        assert!(comes(&encrypted, &receiver));
    }
    let (sent, taken) = (at_a.states().unwrap(), at_b.states().unwrap());
    assert_eq!((sent[0].packets, sent[0].sequence, taken[0].packets), (3, 3, 3), "{sent:?} {taken:?}");
    let [v4, v6] = Way::anywhere(PORT).map(|way| EspPolicy { way, by: None });
    let seen = at_a.policies().unwrap();
    assert!(seen.len() == 3 && [v4, v6, allowed].iter().all(|policy| seen.contains(policy)), "{seen:?}");

    // Begun again with the same key: the receiver takes no number twice. The new association takes the old one's place.
    at_a.add_state(&EspState { window: 0, ..state(a, b, &key, 4711) }).unwrap();
    assert!(!comes(&encrypted, &receiver));
    assert_eq!(at_b.states().unwrap()[0].replayed, 1);
    // Another key under the same name.
    at_a.add_state(&EspState { window: 0, ..state(a, b, &[8; 20], 4711) }).unwrap();
    assert!(!comes(&encrypted, &receiver));
    assert_eq!(at_b.states().unwrap()[0].not_authentic, 0, "an old number is refused unopened");

    at_a.delete_state(allowed.by.unwrap()).unwrap();
    at_a.delete_state(allowed.by.unwrap()).unwrap();
    assert!(!comes(&encrypted, &receiver), "a policy without its association forbids");
    at_a.delete_policy(&way).unwrap();
    at_a.delete_policy(&way).unwrap();
    assert!(!comes(&encrypted, &receiver));
    assert_eq!(at_a.states().unwrap(), []);
}
