//! Go's text templates, as far as `--format` uses them, over JSON: `{{.ID}}`, `{{range .Mounts}}…{{end}}`, `{{json .}}`.
//!
//! The language is that of <https://pkg.go.dev/text/template> with docker's functions. Not done: `define`, `template`, `block`,
//! `break`, `continue`, methods, complex numbers. A name that an object does not have is an error, as with docker.

mod evaluate;
mod functions;
mod lexer;
mod number;
mod parser;
#[cfg(test)]
mod tests;

use serde_json::Value;

use parser::Node;

/// A template that was understood.
#[derive(Debug)]
pub(super) struct Template(Vec<Node>);

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("template parsing error: {0}")]
    Syntax(String),
    #[error("template: {0}")]
    Run(String),
}

impl Template {
    /// # Errors
    /// When the text is no template.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let tokens = lexer::tokens(text).map_err(TemplateError::Syntax)?;
        parser::parse(tokens).map(Self).map_err(TemplateError::Syntax)
    }

    /// What it makes of a value.
    ///
    /// # Errors
    /// When the value has not what the template asks for.
    pub(super) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        evaluate::run(&self.0, value, functions::Mode::Values).map_err(TemplateError::Run)
    }

    /// The titles of a table's columns: docker's functions leave a title as it is.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub(super) fn titles(&self, titles: &Value) -> Result<String, TemplateError> {
        evaluate::run(&self.0, titles, functions::Mode::Titles).map_err(TemplateError::Run)
    }
}
