// SPDX-License-Identifier: Apache-2.0
//! The OCI hooks: a container starts only after its supervisor has said that its way out is in
//! place.
//!
//! A hook runs as the engine's root: in podman's user and mount namespaces, and in the network
//! namespace of the host. It needs no rights there: the supervisor, which systemd starts in the
//! operator's own user namespace, does the work.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::sockopt::socket_peercred;
use terok_clearance::{ContainerId, DisplayText, Timestamp, error_chain};

use crate::annotation_keys;
use crate::host_layout::{HOOK_ERROR_LOG, START_SOCKET};
use crate::oci_config::{MAX_CONFIG_BYTES, OciConfig, UnguardableContainer};
use crate::oci_state::{MAX_STATE_BYTES, OciState, OciStateError};
use crate::resolv_conf::asks_loopback;
use crate::start_request::{
    ContainerNetwork, ContainerNetworkError, MAX_MESSAGE_BYTES, PROTOCOL_VERSION, StartReply,
    StartRequest, select_annotations,
};

/// Maximum time until the supervisor replies. A busy machine takes seconds, a usual one 20 ms.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks at the sockets of a supervisor, for which the second hook waits.
const RELEASE_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum looks: three seconds.
const RELEASE_POLLS: u32 = 600;
/// The size at which the log of failed hooks begins again.
const MAX_LOG_BYTES: u64 = 256 * 1024;

/// The annotation of containers that the hooks of `terok-shield` guard.
const SHIELD_ANNOTATION: &str = "terok.shield.state_dir";

/// A container must not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The state could not be read.
    #[error("cannot read the container's state from standard input")]
    ReadState(#[source] io::Error),
    /// The state is not one.
    #[error(transparent)]
    State(#[from] OciStateError),
    /// The state has no process.
    #[error("the runtime passed no process of the container")]
    NoProcess,
    /// The annotation has an unknown value.
    #[error(transparent)]
    Network(#[from] ContainerNetworkError),
    /// The container belongs to another firewall.
    #[error(
        "the container is guarded by terok-shield already (annotation {SHIELD_ANNOTATION}), whose \
         rules would be replaced: leave the annotation {} out; its questions reach the same \
         operator",
        annotation_keys::NETWORK
    )]
    OtherShield,
    /// The configuration could not be read.
    #[error("cannot read the container's configuration {}", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The configuration does not permit a guard.
    #[error(transparent)]
    Unguardable(#[from] UnguardableContainer),
    /// No supervisor can be started.
    #[error(
        "no supervisor can be started: {} does not answer; run \"terok-clearance setup\", or start \
         the container with \"terok-clearance podman run\"",
        path.display()
    )]
    NoSupervisor {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The socket is another user's.
    #[error("{} belongs to another user (uid {uid})", path.display())]
    OtherUser {
        /// The socket.
        path: PathBuf,
        /// The user id.
        uid: u32,
    },
    /// The supervisor did not reply.
    #[error(
        "the supervisor ended or did not answer within {} seconds; its log: journalctl --user -u \
         \"clearance-supervisor@*\"",
        REPLY_TIMEOUT.as_secs()
    )]
    NoReply(#[source] io::Error),
    /// The supervisor refused the container.
    #[error("{0}")]
    Refused(DisplayText),
}

/// Reads a container's state from `input`.
pub fn read_state(input: impl io::Read) -> Result<OciState, HookError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_STATE_BYTES).unwrap_or(u64::MAX);
    let read = input.take(limit).read_to_end(&mut bytes);
    read.map_err(HookError::ReadState)?;
    Ok(OciState::parse(&bytes)?)
}

/// Has the container's way out put in place, and returns when it is guarded. The container must
/// not start after an error.
pub fn create_runtime(state: &OciState, runtime_dir: &Path) -> Result<(), HookError> {
    let request = build_request(state)?;
    let path = runtime_dir.join(START_SOCKET);
    let unreachable = |source| HookError::NoSupervisor {
        path: path.clone(),
        source,
    };
    let stream = UnixStream::connect(&path).map_err(unreachable)?;
    let peer = socket_peercred(&stream).map_err(|error| unreachable(error.into()))?;
    if peer.uid != rustix::process::geteuid() {
        let uid = peer.uid.as_raw();
        return Err(HookError::OtherUser { path, uid });
    }
    match exchange(&stream, &request).map_err(HookError::NoReply)? {
        StartReply::Ready => Ok(()),
        StartReply::Refused(reason) => Err(HookError::Refused(DisplayText::new(&reason))),
    }
}

/// Waits for a short time until the supervisor has removed its sockets: the engine says that the
/// container is gone when nothing of it is left.
pub fn poststop(state: &OciState, runtime_dir: &Path) {
    let directory = runtime_dir.join("terok/clearance").join(state.id.short());
    for _ in 0..RELEASE_POLLS {
        if !directory.exists() {
            return;
        }
        std::thread::sleep(RELEASE_POLL_INTERVAL);
    }
}

/// Appends the reason of a refusal to the log beside the start socket: the runtimes show little or
/// nothing of a hook's standard error.
pub fn log_failure(
    runtime_dir: &Path,
    id: Option<&ContainerId>,
    error: &HookError,
) -> io::Result<()> {
    let path = runtime_dir.join(HOOK_ERROR_LOG);
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let mut file = options.open(&path)?;
    if file.metadata()?.len() > MAX_LOG_BYTES {
        file.set_len(0)?;
    }
    let micros = i64::try_from(Timestamp::now().as_micros()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
    let id = id.map_or("-", ContainerId::short);
    let error = error_chain(error);
    // One write, so that two hooks do not mix their lines.
    file.write_all(format!("{time:.3} {id} {error}\n").as_bytes())
}

/// Checks the container, and returns what its supervisor must know.
fn build_request(state: &OciState) -> Result<StartRequest, HookError> {
    let OciState {
        id,
        pid,
        bundle,
        annotations,
    } = state;
    let network = annotations.get(annotation_keys::NETWORK);
    let network = ContainerNetwork::parse(network.map_or("", String::as_str))?;
    if annotations.contains_key(SHIELD_ANNOTATION) {
        return Err(HookError::OtherShield);
    }
    let config = read_config(bundle)?;
    config.check_guardable()?;
    Ok(StartRequest {
        version: PROTOCOL_VERSION,
        id: id.clone(),
        pid: pid.ok_or(HookError::NoProcess)?,
        asks_loopback: asks_loopback(&config, bundle),
        bundle: bundle.clone(),
        network,
        annotations: select_annotations(annotations),
    })
}

fn read_config(bundle: &Path) -> Result<OciConfig, HookError> {
    let path = bundle.join("config.json");
    let read = || -> io::Result<OciConfig> {
        let mut bytes = Vec::new();
        File::open(&path)?
            .take(MAX_CONFIG_BYTES)
            .read_to_end(&mut bytes)?;
        Ok(OciConfig::parse(&bytes)?)
    };
    read().map_err(|source| HookError::ReadConfig {
        path: path.clone(),
        source,
    })
}

/// Sends the request and waits for the reply.
fn exchange(mut stream: &UnixStream, request: &StartRequest) -> io::Result<StartReply> {
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    let mut message = serde_json::to_vec(request)?;
    message.push(b'\n');
    if message.len() > MAX_MESSAGE_BYTES {
        let text = "the container has too many annotations";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    stream.write_all(&message)?;
    let mut reply = Vec::new();
    let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX);
    BufReader::new(stream.take(limit)).read_until(b'\n', &mut reply)?;
    if reply.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&reply)?)
}

#[cfg(test)]
mod tests;
