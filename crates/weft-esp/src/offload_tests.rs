use proptest::prelude::*;

use super::*;
use crate::samples::Large;

/// FIN, PSH, ACK and CWR.
const FLAGS: u8 = 0x99;

fn sample(v4: bool, options: usize) -> Large {
    Large { transport: Transport::Tcp, v4, options, flags: FLAGS, source_port: 8080 }
}

fn whole(piece: Piece<'_>) -> Vec<u8> {
    [piece.head, piece.data].concat()
}

fn header(gso: u8, size: usize, start: usize, offset: usize) -> [u8; HEADER_LEN] {
    let mut header = [NEEDS_CHECKSUM, gso, 0, 0, 0, 0, 0, 0, 0, 0];
    header[4..6].copy_from_slice(&(size as u16).to_le_bytes());
    header[6..8].copy_from_slice(&(start as u16).to_le_bytes());
    header[8..10].copy_from_slice(&(offset as u16).to_le_bytes());
    header
}

proptest! {
    #[test]
    fn segments_are_the_whole_in_order_and_sound(
        v4: bool,
        options in 0usize..4,
        size in 1usize..200,
        data in proptest::collection::vec(any::<u8>(), 1..1500),
    ) {
        let sample = sample(v4, options);
        let (mut frame, tcp, headers) = (sample.frame(&data), sample.start(), sample.headers());
        let gso = if v4 { GSO_TCP4 } else { GSO_TCP6 };
        let mut segments = Vec::new();
        let done = Offload::parse(&header(gso, size, tcp, 16))
            .finish(&mut frame, Checksums::Complete, |piece| segments.push(whole(piece)));
        prop_assert!(done);
        let mut joined = Vec::new();
        let last = segments.len() - 1;
        for (at, segment) in segments.iter().enumerate() {
            prop_assert_eq!(sample.sum(segment), 0xffff, "TCP checksum");
            if v4 {
                prop_assert_eq!(fold(sum(&segment[14..34], 0)), 0xffff, "IP checksum");
                prop_assert_eq!(usize::from(u16::from_be_bytes([segment[16], segment[17]])), segment.len() - 14);
            }
            let sequence = u32::from_be_bytes([segment[tcp + 4], segment[tcp + 5], segment[tcp + 6], segment[tcp + 7]]);
            prop_assert_eq!(sequence, 0xffff_ff00u32.wrapping_add((at * size) as u32));
            prop_assert_eq!(segment[tcp + 13] & FIN_PSH != 0, at == last);
            prop_assert_eq!(segment[tcp + 13] & CWR != 0, at == 0);
            prop_assert!(segment.len() <= headers + size);
            joined.extend_from_slice(&segment[headers..]);
        }
        prop_assert_eq!(joined, data);
    }

    #[test]
    fn datagrams_are_the_whole_in_order_and_sound(
        v4: bool,
        size in 1usize..200,
        data in proptest::collection::vec(any::<u8>(), 1..1500),
    ) {
        let sample = Large { transport: Transport::Udp, ..sample(v4, 0) };
        let (mut frame, start, headers) = (sample.frame(&data), sample.start(), sample.headers());
        let mut pieces = Vec::new();
        let done = Offload::parse(&header(GSO_UDP, size, start, 6))
            .finish(&mut frame, Checksums::Complete, |piece| pieces.push(whole(piece)));
        prop_assert!(done);
        let mut joined = Vec::new();
        for (piece, at) in pieces.iter().zip(0..) {
            let word = |at: usize| u16::from_be_bytes([piece[at], piece[at + 1]]);
            prop_assert_eq!(sample.sum(piece), 0xffff, "UDP checksum");
            prop_assert_ne!(word(start + 6), 0, "no checksum");
            prop_assert_eq!(usize::from(word(start + 4)), piece.len() - start);
            if v4 {
                prop_assert_eq!(fold(sum(&piece[14..34], 0)), 0xffff, "IP checksum");
                prop_assert_eq!(usize::from(word(16)), piece.len() - 14);
                prop_assert_eq!(word(18), 0xfffeu16.wrapping_add(at));
            } else {
                prop_assert_eq!(usize::from(word(18)), piece.len() - 54);
            }
            prop_assert!(piece.len() <= headers + size);
            joined.extend_from_slice(&piece[headers..]);
        }
        prop_assert_eq!(joined, data);
    }

    #[test]
    fn whatever_a_device_says_is_survived(
        head in any::<[u8; HEADER_LEN]>(),
        left: bool,
        small in any::<[u8; 4]>(),
        mut frame in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut pieces = 0usize;
        let checksums = if left { Checksums::Left } else { Checksums::Complete };
        Offload::parse(&head).finish(&mut frame, checksums, |_| pieces += 1);
        let near = header(small[0] % 6, usize::from(small[1]), usize::from(small[2]), usize::from(small[3]) % 20);
        Offload::parse(&near).finish(&mut frame, checksums, |_| pieces += 1);
        prop_assert!(pieces <= 402);
    }
}

#[test]
fn frames_with_a_tag_are_cut_behind_it_and_unknown_ones_not_at_all() {
    let cut = |frame: &mut [u8], start: usize| {
        let mut pieces = Vec::new();
        let done =
            Offload::parse(&header(GSO_UDP, 100, start, 6))
                .finish(frame, Checksums::Complete, |piece| pieces.push(whole(piece)));
        (done, pieces)
    };
    for v4 in [true, false] {
        let sample = Large { transport: Transport::Udp, ..sample(v4, 0) };
        let frame = sample.frame(&[7; 250]);
        let (_, plain) = cut(&mut frame.clone(), sample.start());
        assert_eq!(plain.len(), 3);
        for tag in [[0x81, 0, 0, 9], [0x88, 0xa8, 0, 9]] {
            let tagged = |frame: &[u8]| [&frame[..12], &tag, &frame[12..]].concat();
            let (done, pieces) = cut(&mut tagged(&frame), sample.start() + 4);
            assert!(done);
            assert_eq!(pieces, plain.iter().map(|piece| tagged(piece)).collect::<Vec<_>>());
            let twice = tagged(&tagged(&frame));
            assert_eq!(cut(&mut twice.clone(), sample.start() + 8), (false, Vec::new()));
        }
    }
}

#[test]
fn an_open_checksum_is_completed() {
    let sample = sample(true, 0);
    let mut frame = sample.frame(b"some data");
    let mut seen = Vec::new();
    let done = Offload::parse(&header(GSO_NONE, 0, sample.start(), 16)).finish(
        &mut frame,
        Checksums::Complete,
        |piece| seen = whole(piece),
    );
    assert!(done);
    assert_eq!(sample.sum(&seen), 0xffff);
}

proptest! {
    #[test]
    fn what_is_left_open_comes_out_the_same_when_it_is_completed_later(
        udp: bool,
        v4: bool,
        size in 1usize..200,
        data in proptest::collection::vec(any::<u8>(), 1..1500),
        cuts: bool,
    ) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let sample = Large { transport, ..sample(v4, 2) };
        let offload = if cuts {
            Offload::large(transport, v4, sample.start(), size)
        } else {
            Offload::checksum(RemoteChecksum::new(sample.start(), sample.start() + transport.checksum_at()).unwrap())
        };
        let made = |checksums| {
            let mut pieces = Vec::new();
            let put = |piece: Piece<'_>| pieces.push((whole(piece), piece.left));
            assert!(offload.finish(&mut sample.frame(&data), checksums, put));
            pieces
        };
        let (sound, open) = (made(Checksums::Complete), made(Checksums::Left));
        prop_assert_eq!(sound.len(), open.len());
        for ((sound, none), (mut open, left)) in sound.into_iter().zip(open) {
            prop_assert_eq!(none, None);
            let later = Offload::checksum(left.unwrap());
            let mut seen = Vec::new();
            prop_assert!(later.finish(&mut open, Checksums::Complete, |piece| seen = whole(piece)));
            prop_assert_eq!(seen, sound);
        }
    }

    #[test]
    fn a_header_reads_as_it_was_written(udp: bool, v4: bool, start in 0u16..1000, size: u16) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let offload = Offload::large(transport, v4, usize::from(start), usize::from(size));
        prop_assert_eq!(Offload::parse(&offload.header(54)), offload);
        prop_assert_eq!(&offload.header(54)[2..4], &[54, 0]);
    }
}
