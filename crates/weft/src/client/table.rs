//! Tables in the form of docker's: columns padded to their widest cell, three spaces between.

/// Spaces between two columns.
const GAP: usize = 3;
/// Of a column, with the space behind it.
const MIN_WIDTH: usize = 10;

/// Prints a header and rows.
pub(crate) fn print(header: &[&str], rows: &[Vec<String>]) {
    for line in render(header, rows) {
        println!("{line}");
    }
}

fn render(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().cloned()).collect();
    aligned(&all)
}

/// Lines of cells with the columns below one another; rows may have fewer cells than others.
pub(super) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |column| rows.iter().map(|row| length(row, column) + GAP).max().unwrap_or(0).max(MIN_WIDTH);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// How long ago a moment is, in docker's words.
pub(super) fn ago(seconds: i64) -> String {
    format!("{} ago", duration(seconds))
}

/// How long ago a moment in RFC 3339 is; empty for what is none.
pub(super) fn since(moment: &str) -> String {
    let Ok(at) = moment.parse::<jiff::Timestamp>() else { return String::new() };
    ago(jiff::Timestamp::now().as_second() - at.as_second())
}

/// As many characters of an id as tables show.
pub(super) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        MINUTE..120 => "About a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / MINUTE),
        HOUR..7200 => "About an hour".to_owned(),
        _ if seconds < 2 * DAY => format!("{} hours", seconds / HOUR),
        _ if seconds < 14 * DAY => format!("{} days", seconds / DAY),
        _ if seconds < 60 * DAY => format!("{} weeks", seconds / (7 * DAY)),
        _ if seconds < 730 * DAY => format!("{} months", seconds / (30 * DAY)),
        _ => format!("{} years", seconds / (365 * DAY)),
    }
}

/// A size in docker's decimal units.
pub(super) fn size(bytes: i64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// A size in docker's binary units: four digits that count.
pub(super) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let digits = format!("{value:.decimals$}");
    let digits = if decimals == 0 { &digits } else { digits.trim_end_matches('0').trim_end_matches('.') };
    format!("{digits}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let lines =
            render(&["NAME", "ID"], &[vec!["a-long-name".into(), "1".into()], vec!["b".into(), "22".into()]]);
        assert_eq!(lines, ["NAME          ID", "a-long-name   1", "b             22"]);
    }

    #[test]
    fn sizes_and_times_read_like_dockers() {
        assert_eq!(size(2_140_000), "2.14MB");
        assert_eq!(size(512), "512B");
        assert_eq!(binary_size(0), "0B");
        assert_eq!(binary_size(25_276_514_304), "23.54GiB");
        assert_eq!(binary_size(385_024), "376KiB");
        assert_eq!(ago(0), "Less than a second ago");
        assert_eq!(ago(61), "About a minute ago");
        assert_eq!(ago(7300), "2 hours ago");
    }
}
