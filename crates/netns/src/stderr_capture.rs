// SPDX-License-Identifier: Apache-2.0
//! Keeps a bounded part of a child's standard error.

use std::io::Read as _;

use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;

/// The kept part of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StderrPart {
    /// The first bytes, up to a maximum.
    Start(usize),
    /// The last bytes, up to a maximum.
    End(usize),
}

/// A part of a child's standard error. The rest is read and discarded, so that verbose programs
/// neither block nor fill memory.
#[derive(Debug)]
pub struct StderrCapture {
    pipe: Option<ChildStderr>,
    bytes: Vec<u8>,
    part: StderrPart,
}

impl StderrCapture {
    /// Captures a part of what is written to `pipe`.
    pub const fn new(pipe: Option<ChildStderr>, part: StderrPart) -> Self {
        Self {
            pipe,
            bytes: Vec::new(),
            part,
        }
    }

    /// Returns the kept bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns `true` once the end of the output was read.
    pub const fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    /// Reads until the end of the output. Cancel safe.
    pub async fn read_to_end(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer).await {
                Ok(0) | Err(_) => self.pipe = None,
                Ok(length) => self.keep(buffer.get(..length).unwrap_or_default()),
            }
        }
    }

    /// Reads the remaining contents of the pipe without waiting: a background process of the child
    /// may keep it open.
    pub fn drain_pipe(&mut self) {
        let Some(pipe) = self.pipe.take().and_then(|pipe| pipe.into_owned_fd().ok()) else {
            return;
        };
        // The pipe is non-blocking, so the read ends with an error when it is empty.
        if rustix::io::ioctl_fionbio(&pipe, true).is_ok() {
            let mut rest = Vec::new();
            let limit = u64::try_from(PIPE_BYTES).unwrap_or_default();
            drop(std::fs::File::from(pipe).take(limit).read_to_end(&mut rest));
            self.keep(&rest);
        }
    }

    fn keep(&mut self, new: &[u8]) {
        match self.part {
            StderrPart::Start(limit) => {
                let room = limit.saturating_sub(self.bytes.len());
                self.bytes
                    .extend_from_slice(new.get(..room.min(new.len())).unwrap_or_default());
            }
            StderrPart::End(limit) => {
                self.bytes.extend_from_slice(new);
                let surplus = self.bytes.len().saturating_sub(limit);
                self.bytes.drain(..surplus);
            }
        }
    }
}

/// The default capacity of a pipe.
const PIPE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_or_the_end_is_kept() {
        for (part, expected) in [(StderrPart::Start(4), "abcd"), (StderrPart::End(4), "fghi")] {
            let mut capture = StderrCapture::new(None, part);
            for piece in ["abc", "", "defgh", "i"] {
                capture.keep(piece.as_bytes());
            }
            assert_eq!(capture.bytes(), expected.as_bytes());
            assert!(capture.is_closed());
        }
    }
}
