// SPDX-License-Identifier: Apache-2.0
//! The client's end of a connection.

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

use super::reply_writer::{ConnectionClosed, FrameWriter};
use super::{FrameError, FrameReader, MAX_REPLY_BYTES};
use crate::DisplayText;
use crate::socket::{self, PeerCredentials, SocketConnectError};

/// An error of a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
    /// The service closed the connection, or an earlier call was cancelled.
    #[error("the connection is closed")]
    Closed,
    /// The reply is not valid varlink, or not the method's reply.
    #[error("the service violated the protocol: {0}")]
    Protocol(DisplayText),
    /// The service replied with an error.
    #[error("the service refused the call: {0}")]
    Refused(ErrorReply),
}

/// An error reply.
#[derive(Debug, Clone)]
pub struct ErrorReply {
    /// The error's full name, unchanged.
    pub name: String,
    /// The error's parameters, an object.
    pub parameters: Option<Box<RawValue>>,
}

impl ErrorReply {
    /// Decodes the error as an interface's error enum `E`, `None` if the enum has no such error.
    pub fn decode<E: DeserializeOwned>(&self) -> Option<E> {
        #[derive(Serialize)]
        struct ErrorMessage<'a> {
            error: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            parameters: Option<&'a RawValue>,
        }
        let read = |parameters| {
            let error = &self.name;
            let json = serde_json::to_string(&ErrorMessage { error, parameters }).ok()?;
            serde_json::from_str(&json).ok()
        };
        // Some services send an empty object with an error that has no parameters.
        read(self.parameters.as_deref()).or_else(|| read(None))
    }

    /// Returns `true` if the service does not have the method.
    pub fn is_unknown_method(&self) -> bool {
        matches!(
            self.name.as_str(),
            "org.varlink.service.MethodNotFound" | "org.varlink.service.MethodNotImplemented"
        )
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
            FrameError::Truncated { .. } => Self::Closed,
            FrameError::TooLong { .. } | FrameError::EmbeddedNul => {
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

impl From<ConnectionClosed> for CallError {
    fn from(closed: ConnectionClosed) -> Self {
        match closed {
            ConnectionClosed::HungUp
            | ConnectionClosed::Stopping
            | ConnectionClosed::UnexpectedData => Self::Closed,
            ConnectionClosed::Stalled(_) => Self::Io(io::ErrorKind::TimedOut.into()),
            ConnectionClosed::Io(error) => Self::Io(error),
        }
    }
}

/// A connection to a service of the caller's own user.
#[derive(Debug)]
pub struct VarlinkConnection {
    frames: FrameReader,
    writer: FrameWriter,
    /// The service's credentials, if they were checked.
    peer: Option<PeerCredentials>,
    /// `true` while a reply is outstanding: the next reply then belongs to an earlier call.
    awaiting_reply: bool,
}

impl VarlinkConnection {
    const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

    /// Connects to the service at `path`; see [`socket::connect`].
    pub async fn connect(path: &Path) -> Result<Self, SocketConnectError> {
        socket::connect(path).await.map(|(stream, peer)| Self {
            peer: Some(peer),
            ..Self::new(stream)
        })
    }

    /// Creates a connection from a stream whose peer the caller has checked.
    pub fn new(stream: UnixStream) -> Self {
        let stream = Arc::new(stream);
        Self {
            frames: FrameReader::new(Arc::clone(&stream), MAX_REPLY_BYTES),
            writer: FrameWriter::new(stream, Self::WRITE_TIMEOUT),
            peer: None,
            awaiting_reply: false,
        }
    }

    /// Calls `method` (`org.example.Thing1.Do`) and returns the reply's parameters.
    ///
    /// There is no time-out. Not cancel safe: after a dropped call later calls fail with
    /// [`CallError::Closed`].
    pub async fn call<P, R>(&mut self, method: &str, parameters: &P) -> Result<R, CallError>
    where
        P: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.send_call(method, parameters, ReplyMode::Single)
            .await?;
        let reply = self.read_reply().await;
        if let Ok(VarlinkReply {
            continues: false, ..
        })
        | Err(CallError::Refused(_)) = &reply
        {
            self.awaiting_reply = false;
        }
        match reply? {
            VarlinkReply {
                continues: true, ..
            } => Err(protocol_error("several replies to a single call")),
            reply => reply.parse_parameters(),
        }
    }

    /// Calls `method` without a reply.
    pub async fn call_oneway<P>(&mut self, method: &str, parameters: &P) -> Result<(), CallError>
    where
        P: Serialize + ?Sized,
    {
        self.send_call(method, parameters, ReplyMode::Oneway)
            .await?;
        self.awaiting_reply = false;
        Ok(())
    }

    /// Calls `method` with `more` and returns the stream of replies.
    pub async fn call_more<P>(
        mut self,
        method: &str,
        parameters: &P,
    ) -> Result<ReplyStream, CallError>
    where
        P: Serialize + ?Sized,
    {
        self.send_call(method, parameters, ReplyMode::Stream)
            .await?;
        Ok(ReplyStream {
            connection: self,
            ended: false,
        })
    }

    /// Returns `true` if a call can be made: no outstanding reply, and the service is connected.
    pub fn is_idle(&self) -> bool {
        !self.awaiting_reply && !self.frames.has_buffered_bytes() && self.writer.is_connected()
    }

    async fn send_call<P: Serialize + ?Sized>(
        &mut self,
        method: &str,
        parameters: &P,
        mode: ReplyMode,
    ) -> Result<(), CallError> {
        if std::mem::replace(&mut self.awaiting_reply, true) {
            return Err(CallError::Closed);
        }
        let frame = mode.encode_call(method, parameters);
        Ok(self.writer.write(&frame).await?)
    }

    async fn read_reply(&mut self) -> Result<VarlinkReply, CallError> {
        let frame = self.frames.next().await?.ok_or(CallError::Closed)?;
        VarlinkReply::parse_frame(&frame)
    }
}

/// The replies to one call with `more`.
#[derive(Debug)]
pub struct ReplyStream {
    connection: VarlinkConnection,
    ended: bool,
}

impl ReplyStream {
    /// Returns the next reply's parameters, `None` after the last. Cancel safe.
    ///
    /// A reply that is not an `R` is a [`CallError::Protocol`]; the stream continues after it.
    pub async fn next<R: DeserializeOwned>(&mut self) -> Result<Option<R>, CallError> {
        match self.next_raw().await? {
            None => Ok(None),
            Some(parameters) => parse_json(parameters.get()).map(Some),
        }
    }

    /// Returns the next reply's parameters as JSON, `None` after the last. Cancel safe.
    pub async fn next_raw(&mut self) -> Result<Option<Box<RawValue>>, CallError> {
        if self.ended {
            return Ok(None);
        }
        // A framing error ends the stream; a frame that is not a reply can be skipped.
        let frame = match self.connection.frames.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(self.end_with(CallError::Closed)),
            Err(error) => return Err(self.end_with(error.into())),
        };
        let reply = match VarlinkReply::parse_frame(&frame) {
            Err(error @ CallError::Refused(_)) => return Err(self.end_with(error)),
            reply => reply?,
        };
        self.ended = !reply.continues;
        let empty = || parse_json("{}");
        reply.parameters.map_or_else(empty, Ok).map(Some)
    }

    /// Returns the process id of the service, `None` if unknown.
    ///
    /// A restarted service has another process id.
    pub fn service_pid(&self) -> Option<i32> {
        // The kernel reports 0 for a process outside the caller's process id namespace.
        let peer = self.connection.peer.as_ref()?;
        (peer.pid != 0).then_some(peer.pid)
    }

    const fn end_with(&mut self, error: CallError) -> CallError {
        self.ended = true;
        error
    }
}

/// The replies that a call asks for.
#[derive(Debug, Clone, Copy)]
enum ReplyMode {
    Single,
    Stream,
    Oneway,
}

impl ReplyMode {
    fn encode_call<P: Serialize + ?Sized>(self, method: &str, parameters: &P) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"{\"method\":");
        super::append_json(&mut out, method);
        out.extend_from_slice(b",\"parameters\":");
        super::append_json(&mut out, parameters);
        out.extend_from_slice(match self {
            Self::Single => b"}\0",
            Self::Stream => b",\"more\":true}\0",
            Self::Oneway => b",\"oneway\":true}\0",
        });
        out
    }
}

/// A successful reply.
#[derive(Debug)]
struct VarlinkReply {
    parameters: Option<Box<RawValue>>,
    continues: bool,
}

impl VarlinkReply {
    fn parse_frame(frame: &BytesMut) -> Result<Self, CallError> {
        #[derive(Deserialize)]
        struct ReplyMessage {
            #[serde(default)]
            error: Option<String>,
            #[serde(default)]
            parameters: Option<Box<RawValue>>,
            #[serde(default)]
            continues: Option<bool>,
        }
        if !super::is_json_object(frame) {
            return Err(protocol_error("a reply is not an object"));
        }
        let message: ReplyMessage =
            serde_json::from_slice(frame).map_err(|error| protocol_error(&error.to_string()))?;
        let parameters = message.parameters.filter(|raw| raw.get() != "null");
        match message.error {
            Some(name) => Err(CallError::Refused(ErrorReply { name, parameters })),
            None => Ok(Self {
                parameters,
                continues: message.continues.unwrap_or(false),
            }),
        }
    }

    fn parse_parameters<R: DeserializeOwned>(&self) -> Result<R, CallError> {
        parse_json(self.parameters.as_ref().map_or("{}", |raw| raw.get()))
    }
}

fn parse_json<R: DeserializeOwned>(json: &str) -> Result<R, CallError> {
    serde_json::from_str(json).map_err(|error| protocol_error(&error.to_string()))
}

fn protocol_error(reason: &str) -> CallError {
    CallError::Protocol(DisplayText::new(reason))
}
