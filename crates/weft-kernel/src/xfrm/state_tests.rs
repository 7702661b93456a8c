use proptest::prelude::*;

use super::*;

const OWN: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn state(key: &[u8]) -> EspState<'_> {
    EspState {
        id: StateId { to: OWN.parse().unwrap(), spi: 0x0102_0304 },
        from: OTHER.parse().unwrap(),
        key,
        icv_len: 16,
        window: 1984,
        encapsulation: Some(4500),
    }
}

fn attributes(body: &[u8]) -> Vec<(u16, Vec<u8>)> {
    Attributes(&body[INFO_LEN..]).map(|(kind, value)| (kind, value.to_vec())).collect()
}

/// Places and lengths as `offsetof` and `sizeof` say of linux/xfrm.h on a machine of 64 bits.
#[test]
fn a_new_state_has_the_layout_of_the_kernels() {
    let key: Vec<u8> = (0..20).collect();
    let body = new_state(&state(&key));
    assert_eq!(body[..SELECTOR_LEN], [0; SELECTOR_LEN]);
    assert_eq!(body[56..60], [192, 0, 2, 1], "id.daddr");
    assert_eq!(body[72..77], [1, 2, 3, 4, 50], "id.spi, id.proto");
    assert_eq!(body[80..84], [192, 0, 2, 2], "saddr");
    assert_eq!(body[96..128], [0xff; 32], "no limits of bytes and packets");
    assert_eq!(body[128..208], [0; 80], "no limits of time; statistics");
    assert_eq!(body[208..212], mark::XFRM_REQID.to_ne_bytes(), "reqid");
    assert_eq!(body[212..214], 2u16.to_ne_bytes(), "family");
    assert_eq!(body[214..INFO_LEN], [0; 10], "mode, replay_window, flags");

    let attributes = attributes(&body);
    let kinds: Vec<u16> = attributes.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [XFRMA_ALG_AEAD, XFRMA_ENCAP, XFRMA_REPLAY_ESN_VAL]);
    let aead = &attributes[0].1;
    assert_eq!(&aead[..18], b"rfc4106(gcm(aes))\0");
    assert_eq!(aead[64..72], [160u32.to_ne_bytes(), 128u32.to_ne_bytes()].concat());
    assert_eq!(aead[72..], key);
    let mut encap = 2u16.to_ne_bytes().to_vec();
    encap.extend([0x11, 0x94, 0x11, 0x94]);
    encap.resize(24, 0);
    assert_eq!(attributes[1].1, encap);
    let window = &attributes[2].1;
    assert_eq!(
        (window.len(), Fields(window).u32(0), Fields(window).u32(20)),
        (24 + 256, Some(64), Some(2048))
    );
}

#[test]
fn dockers_are_alone_without_a_window_and_with_half_the_check_value() {
    let key = [7; 20];
    let body = new_state(&EspState { icv_len: 8, window: 0, encapsulation: None, ..state(&key) });
    let attributes = attributes(&body);
    assert_eq!(attributes.len(), 1);
    assert_eq!(Fields(&attributes[0].1).u32(68), Some(64));
}

#[test]
fn what_is_named_has_the_layout_of_the_kernels() {
    let id = StateId { to: "2001:db8::1".parse().unwrap(), spi: 0x0102_0304 };
    let mut expected = [0; 24];
    expected[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    expected[15] = 1;
    expected[16..20].copy_from_slice(&[1, 2, 3, 4]);
    expected[20..22].copy_from_slice(&10u16.to_ne_bytes());
    expected[22] = 50;
    assert_eq!(name(id), expected);
}

#[test]
fn counts_are_read_and_others_states_are_not_ours() {
    let mut body = new_state(&EspState { window: 0, ..state(&[7; 20]) }).to_vec();
    body[168..176].copy_from_slice(&77u64.to_ne_bytes());
    for (at, value) in [(192, 1u32), (196, 2), (200, 3)] {
        body[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    attribute(&mut body, XFRMA_REPLAY_VAL, &[9u32, 0, 0].map(u32::to_ne_bytes).concat());
    let found = seen(&body).unwrap();
    assert_eq!((found.id, found.from), (state(&[]).id, state(&[]).from));
    let counts = (found.packets, found.replayed, found.not_authentic, found.sequence);
    assert_eq!(counts, (77, 3, 3, 9));
    body[208] ^= 1;
    assert_eq!(seen(&body), None);
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = seen(&bytes);
    }

    #[test]
    fn any_damage_is_survived(at in 0usize..400, byte: u8, cut in 0usize..400) {
        let mut body = new_state(&state(&[7; 20])).to_vec();
        let len = body.len();
        body[at % len] = byte;
        body.truncate(cut);
        let _ = seen(&body);
    }
}
