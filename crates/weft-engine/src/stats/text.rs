//! The kernel's small formats: a number, `max`, and lines of a name and a number.

use std::collections::BTreeMap;
use std::path::Path;

use super::PidsStats;

/// A file's text; empty if the kernel has no such file.
pub(super) fn text(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default()
}

/// A file that is one number. `max` and what is not there are 0.
pub(super) fn number(dir: &Path, file: &str) -> u64 {
    text(dir, file).trim().parse().unwrap_or(0)
}

/// A file of lines `name number`.
pub(super) fn table(dir: &Path, file: &str) -> BTreeMap<String, u64> {
    parse_table(&text(dir, file))
}

/// Lines that are not of this form are passed over: kernels add some.
pub(super) fn parse_table(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(name, number)| Some((name.to_owned(), number.trim().parse().ok()?))).collect()
}

/// The files are called alike in both versions.
pub(super) fn pids(dir: &Path) -> PidsStats {
    PidsStats { current: number(dir, "pids.current"), limit: number(dir, "pids.max") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tables_pass_over_what_is_no_pair() {
        let table = parse_table("anon 5\nfile 18446744073709551615\n\nx\ny z\nbig 99999999999999999999\n");
        assert_eq!(table.into_iter().collect::<Vec<_>>(), [("anon".into(), 5), ("file".into(), u64::MAX)]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(table in proptest::collection::btree_map("[a-z_]{1,12}", any::<u64>(), 0..9)) {
            let text: String = table.iter().map(|(name, number)| format!("{name} {number}\n")).collect();
            prop_assert_eq!(parse_table(&text), table);
        }

        #[test]
        fn any_text_is_a_table(text in ".{0,200}") {
            parse_table(&text);
        }
    }
}
