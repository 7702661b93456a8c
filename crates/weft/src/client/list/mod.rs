//! Lists as docker shows them: a table, names and ids only, JSON, or what a template says.

pub(super) mod containers;
pub(super) mod images;

use clap::Args;
use serde_json::{Map, Value};

use super::error::{ClientError, Outcome};
use super::table;
use super::template::{Template, TemplateError};

/// How a list is shown.
#[derive(Debug, Default, Clone, Args)]
pub(super) struct Shown {
    /// Only ids
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// table, table TEMPLATE, json, or a template of Go's, for example '{{.ID}} {{.Name}}'
    #[arg(long, value_name = "format")]
    pub(super) format: Option<String>,
}

/// What a list holds, and how it is shown.
#[derive(Debug, Default, Clone, Args)]
pub(super) struct ListFlags {
    /// Only what matches, key=value (repeatable)
    #[arg(short, long, value_name = "filter")]
    pub(super) filter: Vec<String>,
    #[command(flatten)]
    pub(super) shown: Shown,
    /// Whole ids and texts
    #[arg(long)]
    pub(super) no_trunc: bool,
}

/// A kind of list.
pub(super) struct Listing {
    /// What the rows have, and the titles of the columns with it.
    pub(super) titles: &'static [(&'static str, &'static str)],
    /// The columns of the table.
    pub(super) table: &'static str,
    /// What stands for a row when only ids are wanted.
    pub(super) quiet: &'static str,
}

impl Listing {
    /// Prints the rows, which are objects with the names that `titles` has.
    pub(super) fn print(&self, shown: &Shown, rows: &[Value]) -> Outcome {
        for line in self.lines(shown, rows)? {
            println!("{line}");
        }
        Ok(0)
    }

    fn lines(&self, shown: &Shown, rows: &[Value]) -> Result<Vec<String>, ClientError> {
        let given = shown.format.as_deref().unwrap_or_default().trim_matches(' ');
        // Docker understands these two also where the shell has left them as they are.
        let given = given.replace("\\t", "\t").replace("\\n", "\n");
        let (template, is_table) = match (given.as_str(), given.strip_prefix("table")) {
            ("" | "table", _) if shown.quiet => (self.quiet, false),
            ("" | "table", _) => (self.table, true),
            ("json", _) => ("{{json .}}", false),
            ("raw", _) => {
                return Err(ClientError::Usage(
                    "the format raw is not known here: want table, json or a template".into(),
                ));
            }
            (_, Some(columns)) if columns.starts_with([' ', '\t']) => {
                (columns.trim_matches([' ', '\t']), true)
            }
            (template, _) => (template, false),
        };
        let template = Template::parse(template)?;
        let lines = rows.iter().map(|row| template.render(row)).collect::<Result<Vec<_>, _>>()?;
        if !is_table {
            return Ok(lines);
        }
        let titles: Map<String, Value> =
            self.titles.iter().map(|(name, title)| ((*name).into(), (*title).into())).collect();
        let titles = template.titles(&Value::Object(titles))?;
        let cells =
            std::iter::once(&titles).chain(&lines).map(|line| line.split('\t').map(str::to_owned).collect());
        Ok(table::aligned(&cells.collect::<Vec<Vec<String>>>()))
    }
}

impl From<TemplateError> for ClientError {
    fn from(error: TemplateError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// `key=value` of all labels, as one text.
pub(super) fn labels(labels: &Value) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    labels.as_object().into_iter().flatten().map(pair).collect::<Vec<_>>().join(",")
}

/// A moment as docker's tables have it, in the user's time zone.
pub(super) fn moment(seconds: i64) -> String {
    let Ok(at) = jiff::Timestamp::from_second(seconds) else { return String::new() };
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// Now, in seconds since 1970.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PETS: Listing = Listing {
        titles: &[("ID", "PET ID"), ("Name", "NAME")],
        table: "{{.ID}}\t{{.Name}}",
        quiet: "{{.ID}}",
    };

    fn lines(format: Option<&str>, quiet: bool) -> Vec<String> {
        let rows = [json!({"ID": "1", "Name": "a cat of some length"}), json!({"ID": "22", "Name": "dog"})];
        PETS.lines(&Shown { quiet, format: format.map(str::to_owned) }, &rows).unwrap()
    }

    #[test]
    fn lists_come_in_dockers_forms() {
        assert_eq!(lines(None, false), ["PET ID    NAME", "1         a cat of some length", "22        dog"]);
        assert_eq!(lines(Some("table"), false), lines(None, false));
        assert_eq!(lines(None, true), ["1", "22"]);
        assert_eq!(lines(Some("{{.Name}}\\t{{upper .ID}}"), false)[1], "dog\t22");
        assert_eq!(lines(Some("table {{upper .Name}}\\t{{.ID}}"), false)[0], "NAME                   PET ID");
        assert_eq!(lines(Some("json"), false)[1], r#"{"ID":"22","Name":"dog"}"#);
        let broken = PETS.lines(&Shown { quiet: false, format: Some("{{.Age}}".to_owned()) }, &[json!({})]);
        assert!(broken.unwrap_err().to_string().contains("no entry for key \"Age\""));
    }

    #[test]
    fn labels_are_one_text() {
        assert_eq!(labels(&json!({"a": "1", "b": ""})), "a=1,b=");
        assert_eq!(labels(&Value::Null), "");
    }
}
