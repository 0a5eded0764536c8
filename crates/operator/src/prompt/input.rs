// SPDX-License-Identifier: Apache-2.0
//! The input of a prompt: whole lines, or the bytes of keys.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TypedInput {
    /// A whole line, without its end.
    Line(String),
    /// Bytes of keys.
    Bytes(Vec<u8>),
    /// The end of the input.
    End,
}

/// Reads an input by lines or by bytes.
#[derive(Debug)]
pub(super) enum PromptInput<I> {
    Lines(Lines<BufReader<I>>),
    Bytes(BufReader<I>),
}

impl<I: AsyncRead + Unpin> PromptInput<I> {
    pub(super) fn new(input: I, by_bytes: bool) -> Self {
        let reader = BufReader::new(input);
        if by_bytes {
            Self::Bytes(reader)
        } else {
            Self::Lines(reader.lines())
        }
    }

    /// Returns the next input. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<TypedInput> {
        match self {
            Self::Lines(lines) => {
                let line = lines.next_line().await?;
                Ok(line.map_or(TypedInput::End, TypedInput::Line))
            }
            Self::Bytes(reader) => {
                let bytes = reader.fill_buf().await?.to_vec();
                reader.consume(bytes.len());
                Ok(if bytes.is_empty() {
                    TypedInput::End
                } else {
                    TypedInput::Bytes(bytes)
                })
            }
        }
    }
}
