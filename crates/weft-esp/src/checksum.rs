//! The Internet's checksum (RFC 1071): 16-bit words, added with carries that come round.

/// Adds bytes to a sum begun before, whose bytes were even in number. What comes out fits 16 bits.
///
/// Words are added as this machine reads them, and the sum is put in order at the end (RFC 1071, section 2, part B); wide
/// ones in lanes (part C), such that the compiler takes vector registers for them.
pub(crate) fn sum(bytes: &[u8], begin: u32) -> u32 {
    let halves = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        (word >> 32) + (word & 0xffff_ffff)
    };
    let (strides, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0; 4];
    for stride in strides {
        let words = stride.as_chunks::<8>().0;
        lanes.iter_mut().zip(words).for_each(|(lane, word)| *lane += halves(word));
    }
    let (words, rest) = rest.as_chunks::<8>();
    let (pairs, odd) = rest.as_chunks::<2>();
    let mut total = lanes.iter().sum::<u64>() + words.iter().map(halves).sum::<u64>();
    total += pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum::<u64>();
    total += odd.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
    u32::from(fold(u64::from(u16::from_be(fold(total))) + u64::from(begin)))
}

/// The check value that goes with a sum over everything. Zero is what UDP calls "no checksum"; for TCP both are the same.
pub(crate) fn check_value(sum: u32) -> u16 {
    match !fold(sum) {
        0 => 0xffff,
        other => other,
    }
}

/// Brings the carries round until 16 bits are left.
pub(crate) fn fold(total: impl Into<u64>) -> u16 {
    let mut total = total.into();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_as_the_rule_says(bytes in proptest::collection::vec(any::<u8>(), 0..400), begin: u32) {
            let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
            let simple = fold(words.sum::<u64>() + u64::from(begin));
            prop_assert_eq!(sum(&bytes, begin), u32::from(simple));
        }

        #[test]
        fn parts_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in any::<proptest::sample::Index>()) {
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1) & !1);
            prop_assert_eq!(sum(second, sum(first, 0)), sum(&bytes, 0));
        }
    }

    #[test]
    fn the_largest_does_not_overflow() {
        assert_eq!(sum(&[0xff; 70_000], u32::MAX), 0xffff);
    }

    /// The example of RFC 1071, section 3.
    #[test]
    fn the_published_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0), 0xddf2);
    }
}
