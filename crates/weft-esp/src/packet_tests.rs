use proptest::prelude::*;

use super::*;

fn key(fill: u8) -> TrafficKey {
    TrafficKey::new([fill; TrafficKey::LEN])
}

fn sealed(sealer: &Sealer, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN];
    out.extend_from_slice(payload);
    sealer.seal(&mut out, 0, NEXT_UDP).unwrap();
    out
}

#[test]
fn a_packet_opens_once() {
    let (sealer, mut opener) = (Sealer::new(7, &key(1)), Opener::new(&key(1)));
    let packet = sealed(&sealer, b"payload");
    assert_eq!(spi_of(&packet), Some(7));
    let opened = |opener: &mut Opener, packet: &[u8]| {
        let mut copy = packet.to_vec();
        opener.open(&mut copy).map(|opened| (opened.payload.to_vec(), opened.next_header))
    };
    assert_eq!(opened(&mut opener, &packet), Ok((b"payload".to_vec(), NEXT_UDP)));
    assert_eq!(opened(&mut opener, &packet), Err(Refused::Replayed));
    assert_eq!(opened(&mut Opener::new(&key(2)), &packet), Err(Refused::NotAuthentic));
}

/// Where the initialisation vectors begin does not matter to what follows, so any will do.
const FIRST_IV: u64 = u64::MAX - 2;

type Pair = (Sealer, Opener);

fn native() -> Pair {
    (Sealer::new(9, &key(3)), Opener::new(&key(3)))
}

fn docker() -> Pair {
    (Sealer::docker(9, &key(3), FIRST_IV), Opener::docker(&key(3)))
}

#[test]
fn the_longest_payload_fills_a_packet() {
    for len in (40..1500).step_by(ALIGN) {
        let of = |payload| sealed(&Sealer::new(5, &key(1)), &vec![0; payload]).len();
        assert_eq!((of(payload_of(len)), of(payload_of(len) + 1)), (len, len + ALIGN));
    }
}

#[test]
fn sequence_number_and_vector_go_on_as_each_scheme_says() {
    for (sealer, first_iv) in [(native().0, 1), (docker().0, FIRST_IV)] {
        for number in 1..6u32 {
            let packet = sealed(&sealer, b"any");
            assert_eq!(packet[..8], [[0, 0, 0, 9], number.to_be_bytes()].concat());
            assert_eq!(packet[8..16], first_iv.wrapping_add(u64::from(number) - 1).to_be_bytes());
        }
    }
}

#[test]
fn towards_docker_a_packet_is_taken_again() {
    let (sealer, mut opener) = docker();
    let packet = sealed(&sealer, b"payload");
    for _ in 0..3 {
        assert_eq!(&*opener.open(&mut packet.clone()).unwrap().payload, b"payload");
    }
    // The node started anew.
    let again = sealed(&Sealer::docker(9, &key(3), 77), b"payload");
    assert!(opener.open(&mut again.clone()).is_ok());
}

#[test]
fn the_schemes_do_not_take_one_another_for_themselves() {
    let (packet, other) = (sealed(&native().0, b"payload"), sealed(&docker().0, b"payload"));
    assert_eq!(packet.len() - other.len(), 8);
    assert!(docker().1.open(&mut packet.clone()).is_err());
    assert!(native().1.open(&mut other.clone()).is_err());
}

#[test]
fn numbers_end_and_never_begin_anew() {
    for sealer in [native().0, docker().0] {
        assert!(!sealer.is_low());
        sealer.note_used(u32::MAX - 1);
        assert!(sealer.is_low());
        assert_eq!(&sealed(&sealer, b"")[4..8], [0xff; 4]);
        for _ in 0..3 {
            assert_eq!(sealer.seal(&mut vec![0; HEADER_LEN], 0, NEXT_UDP), Err(Exhausted));
        }
    }
}

/// A packet of draft-mcgrew-gcm-test-01, section 4.
struct Published {
    key: &'static str,
    salt: &'static str,
    header: &'static str,
    payload: &'static str,
    sealed: &'static str,
    icv: &'static str,
}

/// Those with AES-128 and without extended sequence numbers. Next header is 1 in all of them.
const PUBLISHED: [Published; 3] = [
    Published {
        key: "feffe9928665731c6d6a8f9467308308",
        salt: "cafebabe",
        header: "0000a5f80000000afacedbaddecaf888",
        payload: "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100000100000000000003736970096379626572\
                  6369747902646b0000010001",
        sealed: "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642\
                 cfbb85a5b47e48a4ec3b9ba95d918bd1",
        icv: "83b70d3aa8bc6ee4c309e9d85a41ad4a",
    },
    Published {
        key: "00000000000000000000000000000000",
        salt: "00000000",
        header: "00000000000000010000000000000000",
        payload: "4500003c99c500008001cb7a40679318010101010800075c020044006162636465666768696a6b6c6d6e6f70717273747576\
                  77616263646566676869",
        sealed: "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894\
                 bc3bd57873ed4d181d19d4d5c8c18af3",
        icv: "f821d496eeb096e98ad2b69e4799c71d",
    },
    Published {
        key: "7d773d00c144c525ac619d18c84a3f47",
        salt: "d9664267",
        header: "335467aeffffffff43457e9182443bc6",
        payload: "",
        sealed: "437f866b",
        icv: "cb3f699fe9b0822bac961c4504bef270",
    },
];

#[test]
fn published_packets_are_made_and_opened() {
    let bytes = |text: &str| hex::decode(text).unwrap();
    for case in PUBLISHED {
        let key = [case.key, case.salt].concat();
        let key = TrafficKey::new(bytes(&key).try_into().unwrap());
        let packet = bytes(&[case.header, case.sealed, case.icv].concat());
        let short = &packet[..packet.len() - 8];
        let payload = bytes(case.payload);
        for (mut opener, packet) in [(Opener::new(&key), &packet[..]), (Opener::docker(&key), short)] {
            let mut packet = packet.to_vec();
            let opened = opener.open(&mut packet).unwrap();
            assert_eq!((&*opened.payload, opened.next_header), (&payload[..], 1));
        }
        let word = |at: usize| u32::from_be_bytes(*packet[at..].first_chunk().unwrap());
        let iv = u64::from_be_bytes(*packet[8..].first_chunk().unwrap());
        let sealer = Sealer::docker(word(0), &key, iv.wrapping_sub(u64::from(word(4)) - 1));
        sealer.note_used(word(4) - 1);
        let mut made = vec![0; HEADER_LEN];
        made.extend_from_slice(&payload);
        sealer.seal(&mut made, 0, 1).unwrap();
        assert_eq!(made, short);
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_what_is_altered_does_not(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        flip in any::<proptest::sample::Index>(),
        bit in 0u8..8,
        docker_scheme: bool,
    ) {
        let (sealer, mut opener) = if docker_scheme { docker() } else { native() };
        let packet = sealed(&sealer, &payload);
        prop_assert_eq!(packet.len() % 4, 0);
        prop_assert_eq!(spi_of(&packet), Some(9));
        let mut bad = packet.clone();
        let at = flip.index(bad.len());
        bad[at] ^= 1 << bit;
        prop_assert!(opener.open(&mut bad).is_err());
        let mut good = packet.clone();
        let opened = opener.open(&mut good).unwrap();
        prop_assert_eq!((&*opened.payload, opened.next_header), (&payload[..], NEXT_UDP));
        for len in 0..packet.len() {
            prop_assert!(opener.open(&mut packet[..len].to_vec()).is_err());
        }
    }

    #[test]
    fn any_bytes_are_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Opener::new(&key(4)).open(&mut bytes.clone()).is_err());
        prop_assert!(Opener::docker(&key(4)).open(&mut bytes.clone()).is_err());
        let _ = spi_of(&bytes);
    }

    /// Padding as long as its length field allows; no sealer here makes so much, others may.
    #[test]
    fn a_trailer_is_taken_off_or_refused(padding in 0usize..256, bad: bool) {
        let mut plain = b"payload".to_vec();
        plain.extend((1..=u8::MAX).take(padding));
        plain.extend([padding as u8, NEXT_UDP]);
        if bad && padding > 0 {
            plain[7] ^= 1;
            prop_assert_eq!(inside(&mut plain), Err(Refused::Malformed));
        } else {
            prop_assert_eq!(&*inside(&mut plain).unwrap().payload, b"payload");
        }
    }
}
