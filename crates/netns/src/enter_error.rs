// SPDX-License-Identifier: Apache-2.0
//! The errors of entering a namespace.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

/// The step at which entering a namespace failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnterStep {
    /// Finding the namespaces.
    FindNamespaces,
    /// Starting the child.
    Fork,
    /// Entering the user namespace.
    EnterUser,
    /// Entering the network namespace.
    EnterNet,
    /// Opening a socket.
    Socket,
    /// Passing the sockets back.
    ReturnSockets,
}

impl fmt::Display for EnterStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FindNamespaces => "finding the namespaces",
            Self::Fork => "starting a child process",
            Self::EnterUser => "entering the user namespace",
            Self::EnterNet => "entering the network namespace",
            Self::Socket => "opening a socket",
            Self::ReturnSockets => "passing the sockets back",
        })
    }
}

/// No socket could be opened in a network namespace.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The process of the namespace has ended.
    #[error("the process has ended")]
    ProcessEnded,
    /// A step failed.
    #[error("{step} failed")]
    Failed {
        /// The failed step.
        step: EnterStep,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The child exceeded its time limit and was killed.
    #[error("entering the namespaces took longer than {0:?}")]
    TimedOut(Duration),
    /// The child died or sent a malformed reply.
    #[error("the child process in the namespaces died before it replied")]
    BadReply,
    /// The request exceeds the limit of one message.
    #[error("{0} sockets exceed the limit of 16 per request")]
    TooManySockets(usize),
}

/// Returns a converter of kernel errors at `step`.
pub(crate) fn step_error(step: EnterStep) -> impl Fn(io::Error) -> EnterError {
    move |source| EnterError::Failed { step, source }
}
