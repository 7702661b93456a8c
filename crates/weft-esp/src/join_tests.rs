use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::checksum::{fold, sum};
use crate::frame::Piece;
use crate::offload::Checksums;
use crate::samples::Large;

const ACK: u8 = 0x10;
const ACK_PSH: u8 = 0x18;

fn sample(v4: bool, source_port: u16) -> Large {
    Large { transport: Transport::Tcp, v4, options: 3, flags: ACK_PSH, source_port }
}

fn datagrams(v4: bool, source_port: u16) -> Large {
    Large { transport: Transport::Udp, ..sample(v4, source_port) }
}

fn either(udp: bool, v4: bool, source_port: u16) -> Large {
    if udp { datagrams(v4, source_port) } else { sample(v4, source_port) }
}

/// As the other node's kernel and [`Offload`] make it.
fn cut(sample: Large, data: &[u8], size: usize) -> Vec<Vec<u8>> {
    cut_with(Checksums::Complete, sample, data, size)
}

fn cut_with(checksums: Checksums, sample: Large, data: &[u8], size: usize) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    let offload = Offload::large(sample.transport, sample.v4, sample.start(), size);
    let put = |piece: Piece<'_>| segments.push([piece.head, piece.data].concat());
    assert!(offload.finish(&mut sample.frame(data), checksums, put));
    segments
}

/// What was given on: the header, the bytes, and how many slices they came in.
type Given = ([u8; HEADER_LEN], Vec<u8>, usize);

fn joined_by(joiner: &mut Joiner, frames: &[Vec<u8>], takes: Takes) -> Vec<Given> {
    let frames: Vec<_> = frames.iter().map(|frame| (frame.clone(), None)).collect();
    joined_with(joiner, &frames, takes)
}

fn joined_with(
    joiner: &mut Joiner,
    frames: &[(Vec<u8>, Option<RemoteChecksum>)],
    takes: Takes,
) -> Vec<Given> {
    let mut buffer = Vec::new();
    let mut ranges = Vec::new();
    for (frame, left) in frames {
        // As between the datagrams of a train: what is around the frames is left alone.
        buffer.extend([0xaa; 62]);
        ranges.push(Frame { place: buffer.len()..buffer.len() + frame.len(), left: *left });
        buffer.extend(frame);
    }
    let mut given = Vec::new();
    joiner.join(&mut buffer, &ranges, takes, &mut |header, slices| {
        let bytes = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        given.push((*header, bytes, slices.len()));
    });
    assert!(joiner.open.is_empty());
    given
}

fn joined(frames: &[Vec<u8>]) -> Vec<Given> {
    joined_by(&mut Joiner::new(), frames, Takes::TcpAndUdp)
}

/// What a kernel makes of it that has to cut it again.
fn finished(given: &[Given]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (header, bytes, _) in given {
        let put = |piece: Piece<'_>| frames.push([piece.head, piece.data].concat());
        assert!(Offload::parse(header).finish(&mut bytes.clone(), Checksums::Complete, put));
    }
    frames
}

/// Takes the identification away where it means nothing.
fn without_free_id(frame: &mut [u8]) {
    let is_sound = |frame: &[u8]| frame.len() >= 34 && fold(sum(&frame[14..34], 0)) == 0xffff;
    if is_sound(frame) && frame[12..15] == [8, 0, 0x45] && frame[20] == 0x40 {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
}

/// Some frames; only that they come through is of interest.
fn data(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 251) as u8).collect()
}

proptest! {
    #[test]
    fn checksums_that_were_left_are_left_to_the_kernel(
        udp: bool,
        v4: bool,
        size in 50usize..200,
        data in vec(any::<u8>(), 1..3000),
        complete in vec(any::<bool>(), 60),
    ) {
        let sample = Large { flags: ACK, ..either(udp, v4, 8080) };
        let left = RemoteChecksum::new(sample.start(), sample.start() + sample.transport.checksum_at());
        let sound = cut(sample, &data, size);
        let open = cut_with(Checksums::Left, sample, &data, size);
        let mixed: Vec<_> = (0..sound.len())
            .map(|n| if complete[n] { (sound[n].clone(), None) } else { (open[n].clone(), left) })
            .collect();
        let given = joined_with(&mut Joiner::new(), &mixed, Takes::TcpAndUdp);
        prop_assert_eq!(given.len(), 1);
        prop_assert_eq!(finished(&given), sound);
        // What is nobody's checksum is not completed by joining.
        let other = RemoteChecksum::new(sample.start() + 2, sample.start() + 8);
        let odd: Vec<_> = open.iter().map(|frame| (frame.clone(), other)).collect();
        prop_assert_eq!(joined_with(&mut Joiner::new(), &odd, Takes::TcpAndUdp).len(), open.len());
    }

    #[test]
    fn what_was_cut_is_one_again(
        udp: bool,
        v4: bool,
        options in 0usize..11,
        push: bool,
        size in 50usize..200,
        data in vec(any::<u8>(), 1..3000),
    ) {
        let flags = if push { ACK_PSH } else { ACK };
        let sample = Large { options, flags, ..either(udp, v4, 8080) };
        let segments = cut(sample, &data, size);
        let given = joined(&segments);
        prop_assert_eq!(given.len(), 1);
        let (header, bytes, slices) = &given[0];
        prop_assert_eq!(*slices, segments.len());
        if segments.len() > 1 {
            let mut whole = sample.frame(&data);
            // The sample leaves IPv4's checksum out.
            if v4 { whole[24..26].copy_from_slice(&bytes[24..26]); }
            prop_assert_eq!(bytes, &whole);
            prop_assert_eq!(*header, Offload::large(sample.transport, v4, sample.start(), size).header(sample.headers()));
        } else {
            prop_assert_eq!(*header, [0; HEADER_LEN]);
        }
        prop_assert_eq!(finished(&given), segments);
    }

    #[test]
    fn connections_in_turn_are_joined_each_for_itself(
        turns in vec(0usize..6, 1..150),
        udp: [bool; 6],
        v4: bool,
        size in 20usize..60,
    ) {
        let sample = |port: u16| either(udp[usize::from(port)], v4, port);
        let streams: Vec<_> = (0..6).map(|port| cut(sample(port), &data(size * 40), size)).collect();
        let mut next = [0; 6];
        let mut frames = Vec::new();
        for turn in turns {
            frames.extend(streams[turn].get(next[turn]).cloned());
            next[turn] += 1;
        }
        let given = joined(&frames);
        let after = finished(&given);
        let port = |frame: &[u8]| frame[sample(0).start() + 1];
        for stream in 0..6 {
            let of = |frames: &[Vec<u8>]| frames.iter().filter(|frame| port(frame) == stream).cloned().collect::<Vec<_>>();
            prop_assert_eq!(of(&after), of(&frames));
        }
        let few = (0..6).filter(|stream| frames.iter().any(|frame| port(frame) == *stream)).count();
        prop_assert!(few > MAX_OPEN || given.len() == few, "{} of {}", given.len(), few);
    }

    /// Lost, sent twice, overtaken, and altered in any byte, with checksums that fit and that do not: what comes out is
    /// what came in, so nothing was joined that does not belong together.
    #[test]
    fn whatever_happened_on_the_way_comes_out_as_it_came_in(
        udp: bool,
        v4: bool,
        len in 300usize..2500,
        events in vec((0u8..6, any::<Index>(), any::<Index>(), 0u8..8), 0..6),
    ) {
        let sample = either(udp, v4, 80);
        let mut frames = cut(sample, &data(len), 100);
        for (event, at, byte, bit) in events {
            let at = at.index(frames.len());
            match event {
                0 if frames.len() > 1 => { frames.remove(at); }
                1 => frames.insert(at, frames[at].clone()),
                2 => { let other = byte.index(frames.len()); frames.swap(at, other); }
                3 => { let len = frames[at].len(); frames[at].truncate(1 + byte.index(len)); }
                _ => {
                    // Mostly the headers are of interest.
                    let len = frames[at].len();
                    let byte = byte.index(if bit > 0 { len.min(90) } else { len });
                    frames[at][byte] ^= 1 << bit;
                    // What is between a frame that must not be fragmented and its fellows is free.
                    let free = v4 && (18..20).contains(&byte);
                    if event == 4 && !free && frames[at].len() > sample.headers() {
                        sample.mend(&mut frames[at]);
                    }
                }
            }
        }
        let (mut before, mut after) = (frames.clone(), finished(&joined(&frames)));
        before.iter_mut().chain(&mut after).for_each(|frame| without_free_id(frame));
        // Some may be of another connection by now, and overtake.
        before.sort();
        after.sort();
        prop_assert_eq!(after, before);
    }

    #[test]
    fn any_bytes_come_out_as_they_came_in(
        frames in vec(vec(any::<u8>(), 0..120), 0..8),
        near in vec((any::<(bool, bool)>(), 0usize..120, vec((0usize..100, any::<u8>()), 0..4)), 0..8),
    ) {
        let mut frames = frames;
        for ((udp, v4), len, changes) in near {
            let mut frame = cut(either(udp, v4, 80), &data(200), 60)[0].clone();
            changes.iter().for_each(|(at, byte)| frame[at % 90] = *byte);
            frame.truncate(len);
            frames.push(frame);
        }
        let mut after = finished(&joined(&frames));
        frames.iter_mut().chain(&mut after).for_each(|frame| without_free_id(frame));
        frames.sort();
        after.sort();
        prop_assert_eq!(after, frames);
    }
}

/// How many frames become of three whose second was changed.
fn count(v4: bool, change: impl FnOnce(&mut Vec<u8>), mend: bool) -> usize {
    let sample = sample(v4, 80);
    let mut frames = cut(sample, &data(300), 100);
    change(&mut frames[1]);
    if mend {
        sample.mend(&mut frames[1]);
    }
    let given = joined(&frames);
    assert_eq!(finished(&given), frames);
    given.len()
}

#[test]
fn what_differs_is_not_joined() {
    assert_eq!((count(true, |_| {}, false), count(false, |_| {}, false)), (1, 1));
    for v4 in [true, false] {
        let tcp = sample(v4, 80).start();
        let fields = [
            ("destination", 0),
            ("source", 11),
            ("traffic class", 15),
            ("time to live", if v4 { 22 } else { 21 }),
            ("sequence", tcp + 7),
            ("acknowledgement", tcp + 11),
            ("window", tcp + 15),
            ("urgent", tcp + 19),
            ("option", tcp + 25),
        ];
        for (field, at) in fields {
            // Altered by two: the first bit of the traffic class is a mark of congestion.
            let given = count(v4, |frame| frame[at] ^= 2, true);
            assert!(given >= 2, "{field} {v4}: {given}");
            assert_eq!(count(v4, |frame| frame[at] ^= 2, false), 3, "{field} {v4}");
        }
        for flags in [0x00, 0x11, 0x12, 0x14, 0x30, 0x50, 0x90] {
            assert_eq!(count(v4, |frame| frame[tcp + 13] = flags, true), 3, "flags {flags:x}");
        }
        assert_eq!(count(v4, |frame| frame[tcp + 40] ^= 2, false), 3, "wrong checksum");
        assert_eq!(count(v4, |frame| frame.push(0), false), 3, "padding of Ethernet");
    }
}

#[test]
fn identifications_of_ipv4_count_where_they_mean_something() {
    let stream = |flags: u8, step: u16| {
        let sample = sample(true, 80);
        let mut frames = cut(sample, &data(300), 100);
        for (frame, place) in frames.iter_mut().zip(0..) {
            frame[18..20].copy_from_slice(&(7 + place * step).to_be_bytes());
            frame[20] = flags;
            sample.mend(frame);
        }
        joined(&frames).len()
    };
    assert_eq!([0, 1, 5].map(|step| stream(0x40, step)), [1, 1, 1], "must not be fragmented");
    assert_eq!([0, 1, 5].map(|step| stream(0x00, step)), [3, 1, 3], "may be fragmented");
    assert_eq!([0x80, 0x20].map(|flags| stream(flags, 1)), [3, 3], "reserved, fragment");
}

#[test]
fn an_end_closes() {
    let sample = sample(true, 80);
    let mut frames = cut(sample, &data(500), 100);
    frames[1][sample.start() + 13] = ACK_PSH;
    sample.mend(&mut frames[1]);
    let sizes = |given: &[Given]| given.iter().map(|given| given.2).collect::<Vec<_>>();
    assert_eq!(sizes(&joined(&frames)), [2, 3]);
    assert_eq!(finished(&joined(&frames)), frames);
    // Shorter than the first one, and longer than it.
    let mut shorter = cut(sample, &data(250), 100);
    shorter.extend(cut(sample, &data(500), 100).into_iter().skip(3));
    assert_eq!(sizes(&joined(&shorter)), [3, 2]);
}

#[test]
fn no_frame_gets_too_large() {
    for v4 in [true, false] {
        let sample = Large { flags: ACK, ..sample(v4, 80) };
        for (size, count, expected) in
            [(1396, 46, vec![46]), (1396, 47, vec![46, 1]), (100, 130, vec![64, 64, 2])]
        {
            // The sample cannot be larger than the kernel's own frames, so what follows is moved.
            let mut frames = cut(sample, &data(size), size);
            for place in 1..count {
                let mut frame = frames[0].clone();
                let sequence = 0xffff_ff00u32.wrapping_add((place * size) as u32);
                frame[sample.start() + 4..sample.start() + 8].copy_from_slice(&sequence.to_be_bytes());
                sample.mend(&mut frame);
                frames.push(frame);
            }
            let given = joined(&frames);
            assert_eq!(given.iter().map(|given| given.2).collect::<Vec<_>>(), expected);
            assert!(given.iter().all(|given| given.1.len() <= 14 + MAX_IP_LEN));
        }
    }
}

#[test]
fn other_protocols_pass_by_and_the_connection_s_own_frames_do_not() {
    let sample = sample(true, 80);
    let frames = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frames = cut(sample, &data(400), 100);
        let mut other = frames[0].clone();
        change(&mut other);
        frames.insert(2, other);
        joined(&frames).iter().map(|given| given.2).collect::<Vec<_>>()
    };
    assert_eq!(frames(&|other| other[12..14].copy_from_slice(&[8, 6])), [1, 4], "ARP");
    assert_eq!(frames(&|other| other[23] = 17), [1, 4], "UDP");
    assert_eq!(frames(&|other| other[sample.start()] ^= 1), [4, 1], "another connection");
    assert_eq!(frames(&|other| other[sample.start() + 13] = 0x11), [2, 1, 2], "its end");
    assert_eq!(frames(&|other| other[21] = 9), [2, 1, 2], "a fragment");
    assert_eq!(frames(&|other| other[14] = 0x46), [2, 1, 2], "with options");
}

#[test]
fn datagrams_are_joined_where_the_device_takes_that_and_they_are_alike() {
    let given = |takes, change: &dyn Fn(&mut Vec<u8>), mend| {
        let sample = datagrams(true, 80);
        let mut frames = cut(sample, &data(350), 100);
        change(&mut frames[1]);
        if mend {
            sample.mend(&mut frames[1]);
        }
        let given = joined_by(&mut Joiner::new(), &frames, takes);
        assert_eq!(finished(&given), frames);
        given.iter().map(|given| given.2).collect::<Vec<_>>()
    };
    let udp = datagrams(true, 80).start();
    assert_eq!(given(Takes::TcpAndUdp, &|_| {}, false), [4]);
    assert_eq!(given(Takes::Tcp, &|_| {}, false), [1; 4]);
    let both = Takes::TcpAndUdp;
    assert_eq!(given(both, &|frame| frame[udp + 6..udp + 8].fill(0), false), [1, 1, 2], "no checksum");
    assert_eq!(given(both, &|frame| frame[udp + 20] ^= 1, false), [1, 1, 2], "a wrong one");
    assert_eq!(given(both, &|frame| frame[udp + 5] ^= 1, true), [1, 1, 2], "another length");
    assert_eq!(given(both, &|frame| frame[22] ^= 1, true), [1, 1, 2], "time to live");
}

#[test]
fn memory_is_used_again() {
    let mut joiner = Joiner::new();
    for round in 0..20 {
        let frames: Vec<_> =
            (0..6).flat_map(|port| cut(sample(round % 2 == 0, port), &data(900), 100)).collect();
        assert_eq!(joined_by(&mut joiner, &frames, Takes::TcpAndUdp).len(), 6);
        assert!(joiner.spare.len() <= MAX_OPEN);
    }
}
