//! Which sequence numbers came already (RFC 4303, section 3.4.3; blocks as in RFC 6479).

const WORD_BITS: u32 = u64::BITS;
const WORDS: usize = 32;

/// Remembers the last [`Window::SIZE`] numbers below the highest one. Zero is never valid.
#[derive(Debug, Clone, Default)]
pub struct Window {
    highest: u32,
    words: [u64; WORDS],
}

impl Window {
    /// Packets that may overtake one another. One word of the ring is always being cleared, so it is not counted.
    pub const SIZE: u32 = (WORDS as u32 - 1) * WORD_BITS;

    /// Whether a packet of this number may still come.
    pub fn is_new(&self, number: u32) -> bool {
        if number == 0 || u64::from(number) + u64::from(Self::SIZE) <= u64::from(self.highest) {
            return false;
        }
        number > self.highest || self.words[word(number)] & bit(number) == 0
    }

    /// Notes that it came; only for packets that are authentic. False: it came already.
    pub fn note(&mut self, number: u32) -> bool {
        if !self.is_new(number) {
            return false;
        }
        if number > self.highest {
            let passed = (number / WORD_BITS - self.highest / WORD_BITS).min(WORDS as u32);
            let begin = self.highest / WORD_BITS;
            (1..=passed).for_each(|step| self.words[(begin + step) as usize % WORDS] = 0);
            self.highest = number;
        }
        self.words[word(number)] |= bit(number);
        true
    }
}

fn word(number: u32) -> usize {
    (number / WORD_BITS) as usize % WORDS
}

fn bit(number: u32) -> u64 {
    1 << (number % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The rule itself: everything that came, and how far back one may be.
    #[derive(Default)]
    struct Model(BTreeSet<u32>);

    impl Model {
        fn note(&mut self, number: u32) -> bool {
            let highest = self.0.last().copied().unwrap_or_default();
            let old = u64::from(number) + u64::from(Window::SIZE) <= u64::from(highest);
            number != 0 && !old && self.0.insert(number)
        }
    }

    /// Numbers that hover around one another, with jumps of all sizes.
    fn numbers() -> impl Strategy<Value = Vec<u32>> {
        let step = prop_oneof![
            8 => -70i64..70,
            2 => -2100i64..2100,
            1 => -5000i64..200_000,
            1 => Just(i64::from(u32::MAX) / 3),
        ];
        (any::<u32>(), proptest::collection::vec(step, 0..400)).prop_map(|(begin, steps)| {
            let mut now = i64::from(begin % 10_000);
            steps
                .into_iter()
                .map(|step| {
                    now = (now + step).clamp(0, i64::from(u32::MAX));
                    now as u32
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn it_is_as_the_rule_says(numbers in numbers()) {
            let (mut window, mut model) = (Window::default(), Model::default());
            for number in numbers {
                let expected = model.note(number);
                prop_assert_eq!(window.is_new(number), expected, "{}", number);
                prop_assert_eq!(window.note(number), expected, "{}", number);
                prop_assert!(!window.is_new(number));
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let mut window = Window::default();
        assert!(!window.note(0) && window.note(1) && !window.note(1));
        assert!(window.note(u32::MAX) && !window.note(u32::MAX) && !window.note(1));
        assert!(window.note(u32::MAX - Window::SIZE + 1) && !window.note(u32::MAX - Window::SIZE));
    }
}
