//! Rows as text: for the terminal, and as Markdown.

use std::fmt::Write as _;

use crate::row::{Against, Entry, Row, Verdict};
use crate::stats;

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// For people who watch the run.
pub(crate) fn terminal(row: &Row) -> String {
    let mut text = format!("\n{}, {}\n", row.title, row.unit);
    for entry in &row.entries {
        let [median, best, spread, docker, limit, value] = cells(row, entry);
        let line = format!(
            "  {:<34} {median:>8} {best:>8} {spread:>6}  {docker:<26} {limit:<26} {value}",
            entry.name
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What [`terminal`]'s columns are.
pub(crate) fn heading() -> String {
    format!(
        "  {:<34} {:>8} {:>8} {:>6}  {:<26} {:<26} value's goal",
        "", "median", "best 20%", "+-", "x Docker (goal)", "x limit (goal)"
    )
}

/// A table of all rows.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = "| measurement | of | median | best 20 % | ± | × Docker | × limit | goal of the value |\n\
                    |---|---|---:|---:|---:|---|---|---|\n"
        .to_owned();
    for row in rows {
        for (number, entry) in row.entries.iter().enumerate() {
            let title = if number == 0 { format!("{}, {}", row.title, row.unit) } else { String::new() };
            let [median, best, spread, docker, limit, value] = cells(row, entry);
            let _ = writeln!(
                text,
                "| {title} | {} | {median} | {best} | {spread} | {docker} | {limit} | {value} |",
                entry.name
            );
        }
    }
    text
}

/// Median, best, spread, the ratios with what their goals came to, and the goal of the value itself.
fn cells(row: &Row, entry: &Entry) -> [String; 6] {
    let verdicts = row.verdicts(entry);
    let said = |against, ratio: Option<f64>| match (
        verdicts.iter().find(|verdict| verdict.goal.against == against),
        ratio,
    ) {
        (Some(verdict), _) => format!("{} ({})", number(verdict.value), outcome(verdict)),
        (None, Some(ratio)) => number(ratio),
        (None, None) => String::new(),
    };
    let value = verdicts.iter().find(|verdict| verdict.goal.against == Against::Nothing);
    let several = entry.values.len() > 1;
    [
        number(stats::median(&entry.values)),
        if several { number(stats::best(&entry.values, row.better)) } else { String::new() },
        if several { format!("{:.0} %", stats::spread(&entry.values) * 100.0) } else { String::new() },
        said(Against::Docker, row.to_docker(entry, false)),
        said(Against::Limit, row.to_limit(entry, false)),
        value.map(outcome).unwrap_or_default(),
    ]
}

fn outcome(verdict: &Verdict) -> String {
    format!("{}: {}", verdict.goal.bound, if verdict.is_met() { "met" } else { "missed" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::sample;

    #[test]
    fn numbers_have_three_digits() {
        let shown = [12345.6, 99.96, 12.34, 9.996, 1.234, 0.99951, 0.5678].map(number);
        assert_eq!(shown, ["12346", "100", "12.3", "10.0", "1.23", "1.00", "0.568"]);
    }

    #[test]
    fn markdown_has_a_line_for_each_entry() {
        let want = "| TCP, Gb/s | Docker | 10.0 | 10.0 | 25 % |  |  |  |\n\
                    |  | Weft | 13.0 | 13.0 | 25 % | 1.30 (≥ 1.25: met) | 0.650 (≥ 0.82: missed) |  |\n\
                    |  | bare hosts | 20.0 | 20.0 | 25 % | 2.00 |  |  |\n";
        let text = markdown(&[sample()]);
        assert_eq!(text.lines().skip(2).map(|line| format!("{line}\n")).collect::<String>(), want);
    }

    #[test]
    fn the_terminal_shows_the_same() {
        let text = terminal(&sample());
        assert!(text.starts_with("\nTCP, Gb/s\n  Docker "), "{text}");
        assert!(text.contains("1.30 (≥ 1.25: met)") && text.contains("0.650 (≥ 0.82: missed)"), "{text}");
    }
}
