//! The command line.

use crate::overlay::Effort;
use crate::record::Record;

/// What to measure: everything, or one part.
#[derive(Debug)]
pub(crate) struct Options {
    part: Option<String>,
    pub(crate) effort: Effort,
    /// Where the result of the overlay goes.
    pub(crate) record: Option<Record>,
}

impl Options {
    /// Reads `[PART] [--quick] [--record FILE --commit ID]`; the error says what is wrong with it.
    pub(crate) fn read(words: impl IntoIterator<Item = String>, parts: &[&str]) -> Result<Self, String> {
        let (mut part, mut effort) = (None, Effort::FULL);
        let (mut path, mut commit) = (None, None);
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => effort = Effort::QUICK,
                "--record" => path = Some(value()?.into()),
                "--commit" => commit = Some(value()?),
                name if part.is_none() && parts.contains(&name) => part = Some(word),
                _ => {
                    let parts = parts.join(", ");
                    return Err(format!(
                        "'{word}' is not known; the parts are {parts}, an option is --quick"
                    ));
                }
            }
        }
        let record = match (path, commit) {
            (Some(path), Some(commit)) => Some(Record { path, commit }),
            (None, None) => None,
            _ => return Err("--record and --commit belong together".to_owned()),
        };
        Ok(Self { part, effort, record })
    }

    /// Whether this part shall be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.part.as_deref().is_none_or(|part| part == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(line.split_whitespace().map(str::to_owned), &["overlay", "vip"])
    }

    #[test]
    fn one_part_or_all() {
        let all = read("").unwrap();
        assert!(all.wants("vip") && all.wants("overlay") && all.effort.thorough && all.record.is_none());
        let one = read("--quick vip --record a.md --commit b").unwrap();
        assert!(one.wants("vip") && !one.wants("overlay") && !one.effort.thorough);
        assert_eq!(one.record.unwrap().commit, "b");
    }

    #[test]
    fn what_is_not_known_is_said() {
        assert!(read("vop").unwrap_err().starts_with("'vop' is not known; the parts are overlay, vip"));
        assert!(read("vip vip").is_err() && read("--record x").is_err() && read("--commit").is_err());
    }
}
