//! Mistakes in placeholders, in the words of Go's package and at its places.

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: expansion:{0}")]
pub struct Malformed(String);

/// Where an action stands. Lines begin with 1, bytes of a line with 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    line: usize,
    byte: usize,
}

impl Place {
    /// Behind this text.
    pub(super) fn of(before: &[u8]) -> Self {
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let byte = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Self { line, byte }
    }

    /// So many bytes behind on the same line.
    pub(super) fn further(self, bytes: usize) -> Self {
        Self { byte: self.byte + bytes, ..self }
    }

    /// Go tells the byte only of what was understood and then failed.
    pub(super) fn malformed(self, what: &str) -> Malformed {
        Malformed(format!("{}: {what}", self.line))
    }

    pub(super) fn not_defined(self, function: &str) -> Malformed {
        self.malformed(&format!("function {function:?} not defined"))
    }

    pub(super) fn not_built(self, action: &str) -> Malformed {
        self.malformed(&format!(
            "{{{{{action}}}}} is not implemented: placeholders are fields, index, env, secret and config"
        ))
    }

    pub(super) fn executing(self, what: &str, problem: &str) -> Malformed {
        Malformed(format!("{}:{}: executing \"expansion\" at <{what}>: {problem}", self.line, self.byte))
    }

    /// A field that is not there. Go names the type that lacks it, and stands at the last part of a path.
    pub(super) fn no_field(self, field: &str) -> Malformed {
        let (path, name) = field.rsplit_once('.').unwrap_or(("", field));
        let of = match path {
            "" => "*template.Context",
            ".Service" => "struct { ID string; Name string; Labels map[string]string }",
            ".Node" => "struct { ID string; Hostname string; Platform template.Platform }",
            ".Node.Platform" => "template.Platform",
            ".Task" => "struct { ID string; Name string; Slot string }",
            _ => "string",
        };
        let problem = format!("can't evaluate field {name} in type {of}");
        self.further(field[1..].find('.').map_or(0, |dot| dot + 1)).executing(field, &problem)
    }
}
