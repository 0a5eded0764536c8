// SPDX-License-Identifier: Apache-2.0
//! `request`: a program inside a sandbox of `run` asks the operator ahead of a connection.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use terok_clearance::socket::SocketConnectError;
use terok_clearance::varlink::{CallError, VarlinkConnection};
use terok_clearance::wire::request1::{
    self, AskParameters, AskedReply, MAX_WAIT_SECONDS, RequestError, RequestReply, RequestState,
    RequestedDest, StatusParameters, WaitParameters,
};
use terok_clearance::{DestPattern, DisplayText, HostPattern, PortRange};
use tokio::time::{Instant, timeout};

use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

/// Long help.
pub(super) const ABOUT: &str = "Ask for a destination from inside a sandbox, ahead of a connection.

For programs that run under `terok-clearance run`. The operator sees the question with your \
reason, as your words. The answer is a rule for the destination; a connection then needs no \
further question. This command cannot answer.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance request api.example.com --reason 'to upload the build' --wait
  terok-clearance request '[2001:db8::7]:5432/tcp' --reason 'the database of the tests' --wait 120
  terok-clearance request --status web:417
  terok-clearance request --explain registry.npmjs.org

The destination is a name or an address, with :PORT (443 if absent) and /tcp, /udp or /icmp. At most
200 characters of the reason are shown. 30 requests can be made in a minute, and 32 can be pending;
the same destination again is the same question. Nothing has to be installed in the sandbox: the
socket is in the variable TEROK_CLEARANCE_REQUEST, and docs/agent-requests.md has its interface.

With --json, one object: state, text, id (if the operator was asked).

Exit status:
  0    allowed: connect
  1    denied: by a rule of the operator, by a policy, or never opened; or another failure
  3    --status: no such request
  4    not decided: the operator was asked and has not answered; --explain: a connection would ask
  5    refused: nothing was asked, or the question ended without an answer that is in force
  69   this is not inside a sandbox of `terok-clearance run`
  130  ended by Ctrl-C")]
pub struct Args {
    /// What to ask for: NAME or ADDRESS, with :PORT and /PROTOCOL
    #[arg(
        value_name = "DEST",
        required_unless_present = "status",
        conflicts_with = "status"
    )]
    dest: Option<RequestDestArg>,
    /// Why it is needed, in one sentence for the operator
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["status", "explain"])]
    reason: Option<String>,
    /// Wait for the answer, at most SECONDS [without a number: as long as it takes]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "forever",
        conflicts_with = "explain")]
    wait: Option<WaitLimit>,
    /// Tell how an earlier request stands
    #[arg(long, value_name = "ID")]
    status: Option<String>,
    /// Tell what a connection would meet, without a question to the operator
    #[arg(long, conflicts_with_all = ["reason", "status"])]
    explain: bool,
}

/// A destination of the command line.
#[derive(Debug, Clone)]
struct RequestDestArg(RequestedDest);

/// A text is not one destination.
#[derive(Debug, thiserror::Error)]
#[error("write one name or address, with :PORT and /tcp, /udp or /icmp")]
struct RequestDestError;

impl FromStr for RequestDestArg {
    type Err = RequestDestError;

    fn from_str(text: &str) -> Result<Self, RequestDestError> {
        let pattern: DestPattern = text.parse().map_err(|_form| RequestDestError)?;
        let dest = match pattern.host() {
            HostPattern::Name(name) => name.to_string(),
            HostPattern::Address(address) => address.to_string(),
            HostPattern::Subdomains(_) | HostPattern::Network(_) => return Err(RequestDestError),
        };
        let ports = pattern.ports();
        if ports.is_some_and(|ports| ports.low() != ports.high()) {
            return Err(RequestDestError);
        }
        Ok(Self(RequestedDest {
            dest,
            port: ports.map(PortRange::low),
            protocol: pattern.protocol(),
        }))
    }
}

/// The longest wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitLimit {
    Forever,
    Seconds(u32),
}

impl FromStr for WaitLimit {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, std::num::ParseIntError> {
        match text {
            "forever" => Ok(Self::Forever),
            seconds => seconds.parse().map(Self::Seconds),
        }
    }
}

/// `request` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestCommandError {
    /// The command was called outside of a sandbox.
    #[error("this is not inside a sandbox of `terok-clearance run`")]
    OutsideSandbox,
    /// The supervisor of the sandbox takes no requests.
    #[error("the supervisor of this sandbox takes no requests")]
    Socket(#[source] SocketConnectError),
    /// The supervisor of the sandbox did not answer.
    #[error("the request failed")]
    Call(#[source] CallError),
    /// The supervisor does not know the request.
    #[error("this sandbox made no request {id}, or too long ago")]
    NoSuchRequest {
        /// The id.
        id: DisplayText,
    },
}

/// Maximum time of a call that does not wait for the operator.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let reply = tokio::select! {
            status = stop.wait() => return Ok(status),
            reply = ask(args) => reply?,
        };
        if context.json {
            let line = serde_json::to_string(&reply).unwrap_or_default();
            context.output.print_line(&line)?;
        } else {
            let RequestReply { state, text } = &reply.reply;
            context.output.print_line(&format!("{state}: {text}"))?;
        }
        Ok(match reply.reply.state {
            RequestState::Allowed => CommandStatus::OK,
            RequestState::Denied => CommandStatus::FAILURE,
            RequestState::Pending | RequestState::Ask => CommandStatus::NOT_DECIDED,
            RequestState::Refused => CommandStatus::NOT_ASKED,
        })
    })
}

/// Calls the supervisor as the arguments say.
async fn ask(args: Args) -> Result<AskedReply, RequestCommandError> {
    let mut supervisor = RequestClient::connect().await?;
    let asked = match (args.dest, args.status) {
        (Some(RequestDestArg(dest)), _) if args.explain => {
            let reply = supervisor.call(request1::EXPLAIN, &dest, CALL_TIMEOUT);
            AskedReply {
                id: None,
                reply: reply.await?,
            }
        }
        (Some(RequestDestArg(dest)), _) => {
            let reason = args.reason.unwrap_or_default();
            let parameters = AskParameters { dest, reason };
            supervisor
                .call(request1::REQUEST, &parameters, CALL_TIMEOUT)
                .await?
        }
        (None, id) => {
            let id = DisplayText::new(&id.unwrap_or_default());
            let parameters = StatusParameters { id: id.clone() };
            let reply = supervisor.call(request1::STATUS, &parameters, CALL_TIMEOUT);
            AskedReply {
                reply: reply.await?,
                id: Some(id),
            }
        }
    };
    match (args.wait, &asked.id) {
        (Some(limit), Some(id)) if asked.reply.state == RequestState::Pending => {
            let reply = supervisor.wait(id, limit).await?;
            Ok(AskedReply {
                id: asked.id,
                reply,
            })
        }
        _ => Ok(asked),
    }
}

/// A connection to the supervisor of this sandbox.
///
/// The path is fixed: nothing inside the sandbox can replace the socket there, as it could the
/// value of a variable.
struct RequestClient(VarlinkConnection);

impl RequestClient {
    async fn connect() -> Result<Self, RequestCommandError> {
        let connected = VarlinkConnection::connect(Path::new(request1::SOCKET_PATH)).await;
        match connected {
            Ok(connection) => Ok(Self(connection)),
            Err(SocketConnectError::NoListener { .. }) if !runner::is_inside_sandbox() => {
                Err(RequestCommandError::OutsideSandbox)
            }
            Err(error) => Err(RequestCommandError::Socket(error)),
        }
    }

    async fn call<P: Serialize, R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &P,
        limit: Duration,
    ) -> Result<R, RequestCommandError> {
        match timeout(limit, self.0.call(method, parameters)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(CallError::Refused(reply))) => match reply.decode() {
                Some(RequestError::NoSuchRequest { id }) => {
                    Err(RequestCommandError::NoSuchRequest { id })
                }
                _ => Err(RequestCommandError::Call(CallError::Refused(reply))),
            },
            Ok(Err(error)) => Err(RequestCommandError::Call(error)),
            Err(_elapsed) => {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Err(RequestCommandError::Call(CallError::Io(error)))
            }
        }
    }

    /// Waits for an answer.
    async fn wait(
        &mut self,
        id: &DisplayText,
        limit: WaitLimit,
    ) -> Result<RequestReply, RequestCommandError> {
        let until = match limit {
            WaitLimit::Forever => None,
            WaitLimit::Seconds(seconds) => {
                Instant::now().checked_add(Duration::from_secs(seconds.into()))
            }
        };
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let whole = left.map(|left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX));
            let seconds = whole.unwrap_or(MAX_WAIT_SECONDS).min(MAX_WAIT_SECONDS);
            let parameters = WaitParameters {
                id: id.clone(),
                seconds,
            };
            let patience = CALL_TIMEOUT.saturating_add(Duration::from_secs(seconds.into()));
            let reply: RequestReply = self.call(request1::WAIT, &parameters, patience).await?;
            let is_over = until.is_some() && seconds < MAX_WAIT_SECONDS;
            if reply.state != RequestState::Pending || is_over {
                return Ok(reply);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use terok_clearance::Protocol;

    use super::*;

    #[test]
    fn a_destination_is_one_host_and_one_port() {
        for (text, dest, port, protocol) in [
            ("api.example.com", "api.example.com", None, None),
            ("api.example.com:8443", "api.example.com", Some(8443), None),
            ("a.test:53/udp", "a.test", Some(53), Some(Protocol::UDP)),
            ("[2001:db8::7]:22", "2001:db8::7", Some(22), None),
            ("203.0.113.7", "203.0.113.7", None, None),
        ] {
            let RequestDestArg(parsed) = text.parse().unwrap();
            let expected = RequestedDest {
                dest: dest.to_owned(),
                port,
                protocol,
            };
            assert_eq!(parsed, expected, "{text}");
        }
        for text in [
            "",
            "*.example.com",
            "10.0.0.0/8",
            "a.test:1-9",
            "https://a.test/",
            "a b",
        ] {
            assert!(text.parse::<RequestDestArg>().is_err(), "{text}");
        }
    }
}
