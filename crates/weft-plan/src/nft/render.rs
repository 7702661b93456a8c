//! Tables and their changes in nft's language, as scripts for `nft -f -`. Each script is one atomic transaction.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::{Chain, NftSet, Table, TableId};

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {{", self.id)?;
        for name in &self.counters {
            writeln!(f, "\tcounter {name} {{ }}")?;
        }
        for (name, set) in &self.sets {
            write_set(f, name, set)?;
        }
        for (name, chain) in &self.chains {
            write_chain(f, name, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, name: &str, set: &NftSet) -> fmt::Result {
    let word = if set.is_map() { "map" } else { "set" };
    writeln!(f, "\t{word} {name} {{")?;
    writeln!(f, "\t\t{}", set.type_clause())?;
    if let Some(learnt) = set.learnt {
        writeln!(f, "\t\tsize {}", learnt.size)?;
        writeln!(f, "\t\tflags dynamic,timeout")?;
        writeln!(f, "\t\ttimeout {}s", learnt.timeout_s)?;
    }
    if !set.elements.is_empty() {
        writeln!(f, "\t\telements = {{ {} }}", join(&set.elements))?;
    }
    writeln!(f, "\t}}")
}

fn write_chain(f: &mut fmt::Formatter<'_>, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let Some(hook) = &chain.hook {
        write!(f, "\t\ttype {} hook {}", hook.kind, hook.hook)?;
        if let Some(device) = &hook.device {
            write!(f, " device \"{device}\"")?;
        }
        writeln!(f, " priority {}; policy accept;", hook.priority)?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{} comment \"{}\"", rule.text, rule.comment)?;
    }
    writeln!(f, "\t}}")
}

fn join(elements: &BTreeSet<String>) -> String {
    elements.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Replaces the table, whether or not it is there: `delete` of an absent one would fail, so it is named first.
pub fn set_table_script(table: &Table) -> String {
    format!("table {id}\ndelete table {id}\n{table}", id = table.id)
}

/// Removes the table, whether or not it is there.
pub fn delete_table_script(id: &TableId) -> String {
    format!("table {id}\ndelete table {id}\n")
}

/// Changes the elements of one set or map; what is removed leaves before what is added comes.
pub fn change_elements_script(
    table: &TableId,
    set: &str,
    add: &BTreeSet<String>,
    remove: &BTreeSet<String>,
) -> String {
    let mut script = String::new();
    for (verb, elements) in [("delete", remove), ("add", add)] {
        if !elements.is_empty() {
            let _ = writeln!(script, "{verb} element {table} {set} {{ {} }}", join(elements));
        }
    }
    script
}
