//! The exchanges of a recording, one JSON object a line; `recordings/README.md` tells what the fields mean.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Exchange {
    pub(crate) step: u32,
    pub(crate) cmd: String,
    /// Method and target.
    pub(crate) request: String,
    pub(crate) body: Option<Value>,
    pub(crate) text: Option<String>,
    pub(crate) archive: Option<Archive>,
    pub(crate) sent_as: Option<String>,
    pub(crate) upgrade: bool,
    pub(crate) input: String,
    pub(crate) half_closes: bool,
    /// The client did not wait for the end.
    pub(crate) left: bool,
    pub(crate) status: u16,
    /// Of the answer; JSON unless it is said.
    #[serde(rename = "type", deserialize_with = "given")]
    pub(crate) content_type: ContentType,
    pub(crate) headers: BTreeMap<String, String>,
    /// Usual headers that the answer did not have.
    pub(crate) without: Vec<String>,
    #[serde(deserialize_with = "some")]
    pub(crate) answer: Option<Value>,
    /// Line of the exchange whose answer this one has, too.
    pub(crate) answer_of: Option<usize>,
    /// Lines of a stream of JSON.
    pub(crate) answers: Vec<Value>,
    pub(crate) output: Option<String>,
    /// What came by the frames of each stream.
    pub(crate) frames: Option<BTreeMap<String, String>>,
    /// Length of a body that was not kept.
    pub(crate) bytes: Option<usize>,
    /// Names in an archive.
    pub(crate) tar: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Archive {
    /// A root file system.
    Root,
    /// What was saved last.
    Image,
    /// One small file.
    File,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentType(pub(crate) Option<String>);

impl Default for ContentType {
    fn default() -> Self {
        Self(Some("application/json".to_owned()))
    }
}

fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<ContentType, D::Error> {
    Option::deserialize(from).map(ContentType)
}

/// `null` is an answer, too.
fn some<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// All exchanges in their order.
pub(crate) fn read(text: &str) -> Vec<Exchange> {
    let lines = text.lines().map(|line| match serde_json::from_str(line) {
        Ok(exchange) => exchange,
        Err(error) => panic!("{error}: {line}"),
    });
    let mut exchanges: Vec<Exchange> = lines.collect();
    for at in 0..exchanges.len() {
        if let Some(line) = exchanges[at].answer_of {
            exchanges[at].answer = exchanges[line].answer.clone();
        }
    }
    exchanges
}

impl Exchange {
    /// Whether the answer goes on while the client does something else.
    pub(crate) fn is_held(&self) -> bool {
        let path = self.request.split('?').next().unwrap_or_default();
        self.left || self.upgrade || path.ends_with("/wait") || path.ends_with("/attach")
    }

    /// Whether the client sends it while its stream is open.
    pub(crate) fn goes_with_streams(&self) -> bool {
        let path = self.request.split('?').next().unwrap_or_default();
        ["/start", "/resize", "/wait", "/kill", "/attach"].iter().any(|end| path.ends_with(end))
    }
}
