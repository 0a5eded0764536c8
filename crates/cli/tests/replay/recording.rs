// SPDX-License-Identifier: Apache-2.0
//! The lines of a recording, as `recordings/record.py` writes them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A session, step by step.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) steps: Vec<Step>,
}

/// The input of a step, and all output that followed.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
}

/// One line: an action or a message.
#[derive(Debug)]
pub(crate) enum Line {
    /// A client connected to one of the sockets.
    Open { name: String, at: String },
    /// A client disconnected.
    Close(String),
    /// The server closed a connection.
    Closed(String),
    /// A message to the server, its bytes without the end of a frame or a line.
    In { name: String, bytes: Vec<u8> },
    /// A message from the server.
    Out { name: String, message: Value },
    /// The arguments of a run of the shield.
    Shield(Vec<String>),
    /// These subscribers have received all messages before this line.
    Barrier(Vec<String>),
    /// A server was stopped.
    Stop(String),
    /// A server was started.
    Start,
    /// The client's program delivered these events to its user.
    Took,
}

/// Returns the folder of the recordings.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/recordings")
}

impl Recording {
    pub(crate) fn read(name: &str) -> Self {
        let path = folder().join(format!("{name}.jsonl"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut steps = Vec::new();
        for line in text.lines() {
            let mut raw: Raw<'_> =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if let Some(name) = raw.step.take() {
                let lines = Vec::new();
                steps.push(Step { name, lines });
            } else {
                let step = steps.last_mut().expect("a recording begins with a step");
                step.lines.push(raw.line());
            }
        }
        assert!(!steps.is_empty(), "{name} is empty");
        Self { steps }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    step: Option<String>,
    open: Option<String>,
    at: Option<String>,
    close: Option<String>,
    closed: Option<String>,
    r#in: Option<String>,
    out: Option<String>,
    #[serde(borrow)]
    json: Option<&'a RawValue>,
    text: Option<String>,
    bytes: Option<String>,
    shield: Option<Vec<String>>,
    barrier: Option<Vec<String>>,
    stop: Option<String>,
    start: Option<String>,
    took: Option<Vec<String>>,
}

impl Raw<'_> {
    fn line(self) -> Line {
        let message = match (self.json, self.text, self.bytes) {
            (Some(json), _, _) => json.get().as_bytes().to_vec(),
            (_, Some(text), _) => text.into_bytes(),
            // Each character stands for the byte with its code point.
            (_, _, Some(bytes)) => bytes.chars().map(|c| u8::try_from(c).unwrap()).collect(),
            (None, None, None) => Vec::new(),
        };
        if let (Some(name), Some(at)) = (self.open, self.at) {
            Line::Open { name, at }
        } else if let Some(name) = self.close {
            Line::Close(name)
        } else if let Some(name) = self.closed {
            Line::Closed(name)
        } else if let Some(name) = self.r#in {
            Line::In {
                name,
                bytes: message,
            }
        } else if let Some(name) = self.out {
            let message = serde_json::from_slice(&message).unwrap();
            Line::Out { name, message }
        } else if let Some(words) = self.shield {
            Line::Shield(words)
        } else if let Some(subscribers) = self.barrier {
            Line::Barrier(subscribers)
        } else if let Some(name) = self.stop {
            Line::Stop(name)
        } else if self.start.is_some() {
            Line::Start
        } else if self.took.is_some() {
            Line::Took
        } else {
            panic!("an empty line")
        }
    }
}
