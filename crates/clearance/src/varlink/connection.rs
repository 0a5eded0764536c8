// SPDX-License-Identifier: Apache-2.0
//! The client's end of a connection: one call after the other.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::UnixStream;

use super::replies::{Closed, Writer};
use super::{FrameError, Frames, REPLY_LIMIT};
use crate::DisplayText;
use crate::socket::{self, ConnectError, Peer};

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
    /// The service closed the connection, or an earlier call on it was given up halfway.
    #[error("the connection is closed")]
    Closed,
    /// The service said something that is no varlink, or not what the method returns.
    #[error("the service broke the protocol: {0}")]
    Protocol(DisplayText),
    /// The service refused.
    #[error("the service refused: {0}")]
    Refused(ErrorReply),
}

/// An error as a service sent it.
#[derive(Debug, Clone)]
pub struct ErrorReply {
    /// The error's name with its interface's, as the service wrote it.
    pub name: String,
    /// The error's parameters, an object.
    pub parameters: Option<Box<RawValue>>,
}

impl ErrorReply {
    /// Returns the error as one of `E`, an interface's error enum, `None` if it is none of them.
    pub fn decode<E: DeserializeOwned>(&self) -> Option<E> {
        #[derive(Serialize)]
        struct Message<'a> {
            error: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            parameters: Option<&'a RawValue>,
        }
        let read = |parameters| {
            let error = &self.name;
            let json = serde_json::to_string(&Message { error, parameters }).ok()?;
            serde_json::from_str(&json).ok()
        };
        // An error without parameters may come with an empty object.
        read(self.parameters.as_deref()).or_else(|| read(None))
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", DisplayText::new(&self.name))?;
        match &self.parameters {
            Some(parameters) => write!(f, " {}", DisplayText::new(parameters.get())),
            None => Ok(()),
        }
    }
}

impl From<FrameError> for CallError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => error.into(),
            FrameError::Cut { .. } => Self::Closed,
            FrameError::TooLong { .. } | FrameError::Nul => {
                Self::Protocol(DisplayText::new(&error.to_string()))
            }
        }
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<Closed> for CallError {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::HungUp | Closed::Stopping | Closed::Spoke => Self::Closed,
            Closed::Stalled(_) => Self::Io(io::ErrorKind::TimedOut.into()),
            Closed::Io(error) => Self::Io(error),
        }
    }
}

/// A connection to a service that runs as the caller's own user.
#[derive(Debug)]
pub struct Connection {
    frames: Frames,
    writer: Writer,
    /// Who serves it, where that was looked at.
    peer: Option<Peer>,
    /// A call was sent and its reply not yet read: what comes next is not for the next call.
    busy: bool,
}

impl Connection {
    const WRITE: Duration = Duration::from_secs(5);

    /// Connects to the service at `path`; see [`socket::connect`].
    pub async fn connect(path: &Path) -> Result<Self, ConnectError> {
        socket::connect(path).await.map(|(stream, peer)| Self {
            peer: Some(peer),
            ..Self::new(stream)
        })
    }

    /// Makes a connection of a stream, whose other end the caller has checked.
    pub fn new(stream: UnixStream) -> Self {
        let stream = Arc::new(stream);
        Self {
            frames: Frames::new(Arc::clone(&stream), REPLY_LIMIT),
            writer: Writer::new(stream, Self::WRITE),
            peer: None,
            busy: false,
        }
    }

    /// Calls `method` (`org.example.Thing1.Do`) and returns its reply's parameters.
    ///
    /// It waits for as long as the service takes. When it is dropped before it is done, the
    /// connection is of no more use: later calls fail with [`CallError::Closed`].
    pub async fn call<P, R>(&mut self, method: &str, parameters: &P) -> Result<R, CallError>
    where
        P: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.request(method, parameters, Wish::One).await?;
        let reply = self.reply().await;
        if let Ok(Reply {
            continues: false, ..
        })
        | Err(CallError::Refused(_)) = &reply
        {
            self.busy = false;
        }
        match reply? {
            Reply {
                continues: true, ..
            } => Err(protocol("more than one reply to a single call")),
            reply => reply.parse(),
        }
    }

    /// Calls `method` without waiting for anything: nobody says whether it was done.
    pub async fn call_oneway<P>(&mut self, method: &str, parameters: &P) -> Result<(), CallError>
    where
        P: Serialize + ?Sized,
    {
        self.request(method, parameters, Wish::None).await?;
        self.busy = false;
        Ok(())
    }

    /// Calls `method` with `more` and returns the stream of its replies.
    pub async fn call_more<P>(
        mut self,
        method: &str,
        parameters: &P,
    ) -> Result<ReplyStream, CallError>
    where
        P: Serialize + ?Sized,
    {
        self.request(method, parameters, Wish::Many).await?;
        Ok(ReplyStream {
            connection: self,
            ended: false,
        })
    }

    /// Says whether the next call can be made: no reply is awaited, and the service is there.
    pub fn is_idle(&self) -> bool {
        !self.busy && !self.frames.is_ahead() && self.writer.is_connected()
    }

    async fn request<P: Serialize + ?Sized>(
        &mut self,
        method: &str,
        parameters: &P,
        wish: Wish,
    ) -> Result<(), CallError> {
        if std::mem::replace(&mut self.busy, true) {
            return Err(CallError::Closed);
        }
        let frame = wish.frame(method, parameters);
        Ok(self.writer.write(&frame).await?)
    }

    async fn reply(&mut self) -> Result<Reply, CallError> {
        let frame = self.frames.next().await?.ok_or(CallError::Closed)?;
        Reply::parse_frame(&frame)
    }
}

/// The replies to one call with `more`.
#[derive(Debug)]
pub struct ReplyStream {
    connection: Connection,
    ended: bool,
}

impl ReplyStream {
    /// Returns the next reply's parameters, `None` after the last.
    ///
    /// A reply that is no `R` is a [`CallError::Protocol`], and the stream goes on after it. A
    /// call that is dropped before it is done loses nothing.
    pub async fn next<R: DeserializeOwned>(&mut self) -> Result<Option<R>, CallError> {
        match self.next_raw().await? {
            None => Ok(None),
            Some(parameters) => parse(parameters.get()).map(Some),
        }
    }

    /// Returns the next reply's parameters as JSON, `None` after the last.
    pub async fn next_raw(&mut self) -> Result<Option<Box<RawValue>>, CallError> {
        if self.ended {
            return Ok(None);
        }
        // Of bytes that are no frame nothing can follow; a frame that is no reply can be skipped.
        let frame = match self.connection.frames.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(self.end(CallError::Closed)),
            Err(error) => return Err(self.end(error.into())),
        };
        let reply = match Reply::parse_frame(&frame) {
            Err(error @ CallError::Refused(_)) => return Err(self.end(error)),
            reply => reply?,
        };
        self.ended = !reply.continues;
        let empty = || parse("{}");
        reply.parameters.map_or_else(empty, Ok).map(Some)
    }

    /// Returns the process that serves the connection, `None` where that is not known.
    ///
    /// A service that was restarted is another process.
    pub fn process(&self) -> Option<i32> {
        // The kernel says 0 of a process that this one's namespace cannot see.
        let peer = self.connection.peer.as_ref()?;
        (peer.pid != 0).then_some(peer.pid)
    }

    const fn end(&mut self, error: CallError) -> CallError {
        self.ended = true;
        error
    }
}

/// How a call wants to be answered.
#[derive(Debug, Clone, Copy)]
enum Wish {
    One,
    Many,
    None,
}

impl Wish {
    fn frame<P: Serialize + ?Sized>(self, method: &str, parameters: &P) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"{\"method\":");
        super::json_into(&mut out, method);
        out.extend_from_slice(b",\"parameters\":");
        super::json_into(&mut out, parameters);
        out.extend_from_slice(match self {
            Self::One => b"}\0",
            Self::Many => b",\"more\":true}\0",
            Self::None => b",\"oneway\":true}\0",
        });
        out
    }
}

/// A reply that is no error.
#[derive(Debug)]
struct Reply {
    parameters: Option<Box<RawValue>>,
    continues: bool,
}

impl Reply {
    fn parse_frame(frame: &BytesMut) -> Result<Self, CallError> {
        #[derive(Deserialize)]
        struct Message {
            #[serde(default)]
            error: Option<String>,
            #[serde(default)]
            parameters: Option<Box<RawValue>>,
            #[serde(default)]
            continues: Option<bool>,
        }
        if !super::is_object(frame) {
            return Err(protocol("a reply that is no object"));
        }
        let message: Message =
            serde_json::from_slice(frame).map_err(|error| protocol(&error.to_string()))?;
        let parameters = message.parameters.filter(|raw| raw.get() != "null");
        match message.error {
            Some(name) => Err(CallError::Refused(ErrorReply { name, parameters })),
            None => Ok(Self {
                parameters,
                continues: message.continues.unwrap_or(false),
            }),
        }
    }

    fn parse<R: DeserializeOwned>(&self) -> Result<R, CallError> {
        parse(self.parameters.as_ref().map_or("{}", |raw| raw.get()))
    }
}

fn parse<R: DeserializeOwned>(json: &str) -> Result<R, CallError> {
    serde_json::from_str(json).map_err(|error| protocol(&error.to_string()))
}

fn protocol(reason: &str) -> CallError {
    CallError::Protocol(DisplayText::new(reason))
}
