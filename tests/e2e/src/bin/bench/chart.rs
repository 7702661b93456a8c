//! The rows beside Docker as an SVG of horizontal bars: how many times as good as Docker each is.

use std::fmt::Write as _;

use crate::row::{Against, Bound, Entry, Goal, Row};
use crate::stats::{self, Better};
use crate::table::number;

/// All in pixels: where bars begin, how long one of Docker's value is, and where they are cut off.
const LEFT: f64 = 350.0;
const UNIT: f64 = 150.0;
const LONGEST: f64 = 3.0;
/// Where numbers stand, clear of all marks.
const NUMBERS: f64 = LEFT + UNIT * LONGEST + 10.0;
const WIDTH: f64 = NUMBERS + 230.0;
const BAR: f64 = 13.0;
const STEP: f64 = BAR + 3.0;
const BETWEEN: f64 = 10.0;
const TOP: f64 = 58.0;

/// Of those who are judged, in order, and of all others.
const COLOURS: [&str; 3] = ["#1f6feb", "#6cb2ff", "#a371f7"];
const OTHERS: &str = "#c0c4ca";
const GOAL: &str = "#cf222e";

/// The rows in which Docker took part; longer bars are better, whatever is measured.
pub(crate) fn svg(title: &str, rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.beside_docker).collect();
    let mut bars = String::new();
    let mut y = TOP;
    for row in &rows {
        y = draw(&mut bars, row, y) + BETWEEN;
    }
    let docker = LEFT + UNIT;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"15\" font-weight=\"bold\">{}</text>\n\
         <text x=\"12\" y=\"38\" fill=\"#57606a\">times as good as Docker in the same rounds; the line is Docker, \
         red marks are goals, grey is for comparison</text>\n\
         {bars}<line x1=\"{docker}\" y1=\"{TOP}\" x2=\"{docker}\" y2=\"{y}\" stroke=\"#24292f\"/>\n</svg>\n",
        escaped(title)
    )
}

/// Draws a row from `y` on; where it ends.
fn draw(out: &mut String, row: &Row, mut y: f64) -> f64 {
    let _ = writeln!(
        out,
        "<text x=\"12\" y=\"{:.1}\">{}</text>",
        y + BAR - 2.0,
        escaped(&format!("{}, {}", row.title, row.unit))
    );
    let start = y;
    let mut judged = 0;
    for entry in &row.entries[1..] {
        let Some(ratio) = row.to_docker(entry, false) else { continue };
        let colour = if entry.judged { COLOURS[judged % COLOURS.len()] } else { OTHERS };
        judged += usize::from(entry.judged);
        bar(out, entry, gain(row.better, ratio), colour, y);
        y += STEP;
    }
    for x in row.goals.iter().filter_map(|goal| mark(row.better, goal)) {
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{start}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{GOAL}\" stroke-width=\"2\"/>",
            y - 3.0
        );
    }
    y
}

fn bar(out: &mut String, entry: &Entry, gain: f64, colour: &str, y: f64) {
    let width = gain.min(LONGEST) * UNIT;
    let said = format!("{} {:.2}× ({})", entry.name, gain, number(stats::median(&entry.values)));
    let _ = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
         <text x=\"{NUMBERS}\" y=\"{:.1}\" fill=\"#57606a\" font-size=\"10\">{}</text>",
        y + BAR - 3.0,
        escaped(&said)
    );
}

/// How many times as good a ratio is.
fn gain(better: Better, ratio: f64) -> f64 {
    match better {
        Better::Higher => ratio,
        Better::Lower => 1.0 / ratio,
    }
}

/// Where the mark of a goal beside Docker stands.
fn mark(better: Better, goal: &Goal) -> Option<f64> {
    let (Bound::AtLeast(bound) | Bound::AtMost(bound)) = goal.bound;
    let x = LEFT + gain(better, bound) * UNIT;
    (goal.against == Against::Docker && x <= LEFT + LONGEST * UNIT).then_some(x)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::sample;

    #[test]
    fn a_bar_is_as_long_as_its_ratio_and_marks_stand_at_goals() {
        let svg = svg("a < b", &[sample()]);
        assert!(svg.contains("a &lt; b"), "{svg}");
        assert_eq!(svg.matches("<rect x=").count(), 2, "{svg}");
        // 1.3 and 2 times Docker's, and the goal of 1.25.
        let mark = format!("x1=\"{:.1}\"", LEFT + 1.25 * UNIT);
        for want in ["width=\"195.0\"", "width=\"300.0\"", &mark] {
            assert!(svg.contains(want), "{want} in {svg}");
        }
    }

    #[test]
    fn less_is_more_where_lower_is_better() {
        assert_eq!(gain(Better::Lower, 0.5), 2.0);
        let goal = Goal::beside_docker(Bound::AtMost(0.5));
        assert_eq!(mark(Better::Lower, &goal), Some(LEFT + 2.0 * UNIT));
        assert_eq!(mark(Better::Lower, &Goal::alone(Bound::AtMost(0.5))), None);
    }

    #[test]
    fn what_docker_took_no_part_in_is_not_drawn() {
        let alone = Row { beside_docker: false, ..sample() };
        assert!(!svg("t", &[alone]).contains("<rect x="));
    }
}
