// SPDX-License-Identifier: Apache-2.0
//! Destination and format of the demo's output.

use std::fmt;
use std::io;

use crate::error::DemoError;
use crate::render::StepRenderer;
use crate::report::DemoStep;

/// A function that writes a piece of the demo's output without buffering.
pub type DemoWriter<'a> = &'a dyn Fn(&str) -> io::Result<()>;

/// The form of the demo's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text {
        /// Whether ANSI colours are used.
        colored: bool,
    },
}

/// The demo's output.
#[derive(Clone, Copy)]
pub struct DemoOutput<'a> {
    write: DemoWriter<'a>,
    format: DemoFormat,
}

impl fmt::Debug for DemoOutput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoOutput")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl<'a> DemoOutput<'a> {
    /// Returns an output in `format` that calls `write`.
    pub const fn new(format: DemoFormat, write: DemoWriter<'a>) -> Self {
        Self { write, format }
    }

    /// Writes the introduction; JSON output has no introduction.
    pub fn write_header(self) -> Result<(), DemoError> {
        match self.renderer() {
            Some(renderer) => self.print(&renderer.render_header()),
            None => Ok(()),
        }
    }

    /// Writes a step.
    pub(crate) fn report(self, step: &DemoStep) -> Result<(), DemoError> {
        let text = match self.renderer() {
            Some(renderer) => renderer.render_step(step),
            None => match serde_json::to_string(step) {
                Ok(object) => object + "\n",
                Err(error) => return Err(DemoError::WriteOutput(error.into())),
            },
        };
        self.print(&text)
    }

    /// Writes `text` unchanged.
    pub(crate) fn print(self, text: &str) -> Result<(), DemoError> {
        (self.write)(text).map_err(DemoError::WriteOutput)
    }

    /// Returns the renderer of the text output; `None` for JSON.
    pub(crate) const fn renderer(self) -> Option<StepRenderer> {
        match self.format {
            DemoFormat::Json => None,
            DemoFormat::Text { colored } => Some(StepRenderer { colored }),
        }
    }
}
