// SPDX-License-Identifier: Apache-2.0
//! A line reader with a limit on the length of a line.

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// The lines of a stream. Like the Python program, drops an incomplete last line.
#[derive(Debug)]
pub(crate) struct BoundedLines<R> {
    source: BufReader<R>,
    line: Vec<u8>,
    /// Whether the line is longer than [`MAX_LINE_BYTES`].
    is_truncated: bool,
}

/// Maximum length of a line in bytes. Longer lines are cut and will not parse.
const MAX_LINE_BYTES: usize = 64 * 1024;

impl<R: AsyncRead + Unpin> BoundedLines<R> {
    /// Returns the lines of `from`.
    pub(crate) fn new(from: R) -> Self {
        Self {
            source: BufReader::new(from),
            line: Vec::new(),
            is_truncated: false,
        }
    }

    /// Returns the next line without the line end, with invalid UTF-8 replaced; `None` at the end.
    ///
    /// Cancel safe.
    pub(crate) async fn next_line(&mut self) -> std::io::Result<Option<String>> {
        loop {
            let came = self.source.fill_buf().await?;
            if came.is_empty() {
                return Ok(None);
            }
            let end = came.iter().position(|byte| *byte == b'\n');
            let part = came.get(..end.unwrap_or(came.len())).unwrap_or_default();
            let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
            self.is_truncated |= part.len() > room;
            self.line
                .extend_from_slice(part.get(..room).unwrap_or(part));
            let taken = part.len().saturating_add(usize::from(end.is_some()));
            self.source.consume(taken);
            if end.is_some() {
                if std::mem::take(&mut self.is_truncated) {
                    tracing::warn!("a line of more than {MAX_LINE_BYTES} bytes was cut");
                }
                let line = std::mem::take(&mut self.line);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_bounded() {
        let mut input = b"a\n\nd\r\n\xff\n".to_vec();
        input.extend(vec![b'x'; 3 * MAX_LINE_BYTES]);
        input.extend(b"\nlast\nno end");
        let mut lines = BoundedLines::new(input.as_slice());
        let mut came = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            came.push(line);
        }
        let long = came.remove(4);
        assert_eq!(long.len(), MAX_LINE_BYTES);
        assert_eq!(came, ["a", "", "d\r", "\u{fffd}", "last"]);
    }
}
