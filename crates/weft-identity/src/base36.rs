//! Big-endian integers in base 36 with digits `0-9a-z`, left padded, as join tokens carry them.

/// `bytes` as text of exactly `width` digits; callers choose a width that holds every value of that length.
pub(crate) fn encode(bytes: &[u8], width: usize) -> String {
    let mut digits = vec![0u8; width];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in digits.iter_mut().rev() {
            carry += u32::from(*digit) * 256;
            *digit = (carry % 36) as u8;
            carry /= 36;
        }
    }
    digits.iter().map(|digit| char::from_digit(u32::from(*digit), 36).unwrap_or('0')).collect()
}

/// The integer of `text`, or nothing when a character is no digit or the value does not fit `N` bytes.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    for byte in text.bytes() {
        let mut carry = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            b'a'..=b'z' => u32::from(byte - b'a') + 10,
            _ => return None,
        };
        for place in bytes.iter_mut().rev() {
            carry += u32::from(*place) * 36;
            *place = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn round_trip(bytes: [u8; 32]) {
            let text = encode(&bytes, 50);
            assert_eq!(text.len(), 50);
            assert_eq!(decode(&text), Some(bytes));
        }
    }

    #[test]
    fn refuses_overflow_and_foreign_digits() {
        assert_eq!(decode::<16>(&"z".repeat(25)), None);
        assert_eq!(decode::<16>("A"), None);
        assert_eq!(decode::<16>("é"), None);
    }
}
