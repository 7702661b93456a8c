//! Errors as runtimes read them.

use serde::{Deserialize, Serialize};

/// What went wrong, by the specification's numbers; those from 100 on are the plugin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    IncompatibleVersion = 1,
    UnsupportedField = 2,
    /// The container is gone: there is nothing to clean up.
    UnknownContainer = 3,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidConfig = 7,
    TryAgainLater = 11,
    /// Of STATUS: nothing can be added.
    NotAvailable = 50,
    /// Weft refused or failed, as the message says.
    Refused = 100,
    /// Of CHECK: it is not as it was made.
    Differs = 101,
}

/// An error on its way to the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}")]
pub(crate) struct CniError {
    pub(crate) code: u32,
    pub(crate) msg: String,
    /// May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) details: String,
}

impl CniError {
    pub(crate) fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code: code as u32, msg: msg.into(), details: String::new() }
    }

    pub(crate) fn with_details(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// What is printed: the error with the version of the specification that it follows.
    pub(crate) fn render(&self, version: &str) -> serde_json::Value {
        let mut value = serde_json::json!({ "cniVersion": version, "code": self.code, "msg": self.msg });
        if !self.details.is_empty() {
            value["details"] = self.details.clone().into();
        }
        value
    }
}
