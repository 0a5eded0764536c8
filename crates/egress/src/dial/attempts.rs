// SPDX-License-Identifier: Apache-2.0
//! Connection attempts under way, and the choice of the error to report.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::net::TcpStream;

use super::{DialError, UnreachablePart};

type Attempt<'a> = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + 'a>>;

/// Attempts under way, oldest first. Dropping one closes its socket.
#[derive(Default)]
pub(super) struct Attempts<'a>(VecDeque<Attempt<'a>>);

impl<'a> Attempts<'a> {
    /// Adds an attempt. Returns `true` if the oldest one was given up for it.
    pub(super) fn push(&mut self, attempt: Attempt<'a>, maximum: usize) -> bool {
        let full = self.0.len() >= maximum;
        if full {
            self.0.pop_front();
        }
        self.0.push_back(attempt);
        full
    }

    /// Waits for the end of one attempt; `None` without attempts. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<io::Result<TcpStream>> {
        poll_fn(|cx| {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            let ended = self.0.iter_mut().enumerate().find_map(|(index, attempt)| {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(result) => Some((index, result)),
                    Poll::Pending => None,
                }
            });
            match ended {
                Some((index, result)) => {
                    drop(self.0.remove(index));
                    Poll::Ready(Some(result))
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// Errors of the attempts so far; keeps the most telling one.
#[derive(Default)]
pub(super) struct AttemptErrors(Option<DialError>);

impl AttemptErrors {
    pub(super) fn push(&mut self, error: io::Error) {
        let error = DialError::from(error);
        if self.0.as_ref().is_none_or(|kept| rank(&error) > rank(kept)) {
            self.0 = Some(error);
        }
    }

    pub(super) fn most_telling(self) -> DialError {
        self.0.unwrap_or(DialError::NoCandidates)
    }

    /// The same with some attempts unanswered.
    pub(super) fn most_telling_after_timeout(mut self) -> DialError {
        self.push(rustix::io::Errno::TIMEDOUT.into());
        self.most_telling()
    }
}

/// The higher, the more the error says about the destination. A missing route is often only the
/// missing IPv6 of this network, so a timeout says more.
fn rank(error: &DialError) -> u8 {
    match error {
        DialError::Refused => 6,
        DialError::NotPermitted => 5,
        DialError::Unreachable(UnreachablePart::Host) => 4,
        DialError::TimedOut => 3,
        DialError::Unreachable(UnreachablePart::Network) => 2,
        DialError::TooManyOpenFiles | DialError::Local(_) => 1,
        DialError::NoCandidates => 0,
    }
}
