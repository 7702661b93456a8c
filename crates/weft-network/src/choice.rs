//! Words of options.

use std::fmt::Display;

/// The choice of this word; else which words there are.
pub(crate) fn parse<T: Display + Copy>(text: &str, all: &[T]) -> Result<T, String> {
    let words: Vec<String> = all.iter().map(ToString::to_string).collect();
    let found = words.iter().position(|word| word == text);
    found.and_then(|index| all.get(index).copied()).ok_or_else(|| {
        let (last, others) =
            words.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
        format!("{text:?} is none of {} and {last}", others.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use crate::OverlayEngineChoice;

    #[test]
    fn a_word_is_found_and_another_one_is_told_what_there_is() {
        assert_eq!("bridge".parse(), Ok(OverlayEngineChoice::Bridge));
        let refused = "bridges".parse::<OverlayEngineChoice>().unwrap_err();
        assert_eq!(refused, "\"bridges\" is none of auto, bpf and bridge");
    }
}
