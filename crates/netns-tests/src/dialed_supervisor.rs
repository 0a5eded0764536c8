// SPDX-License-Identifier: Apache-2.0
//! A supervisor that dials, as a process that a test can kill.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test helper"
)]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;

use names::StaticHosts;
use netns::gateway::GatewayNetns;
use netns::{ProcessHandle, SandboxProcesses};
use supervisor::{
    DialedConfig, DialedPolicy, DialedSupervisor, DossierSource, HoldLimit, HostSockets,
    StateJournal,
};
use terok_clearance::Dossier;
use terok_clearance::socket::RuntimeDir;
use tokio_util::sync::CancellationToken;

/// The variable with the runtime directory.
pub const RUNTIME: &str = "TEROK_TEST_RUNTIME";
/// The variable with the pid of the sandbox.
pub const SANDBOX: &str = "TEROK_TEST_SANDBOX";
/// The variable with the descriptor of the state.
pub const STATE: &str = "TEROK_TEST_STATE_FD";
/// The variable with the descriptor of the gateway; without one, it is built.
pub const GATEWAY: &str = "TEROK_TEST_GATEWAY_FD";
/// The begin of the line with the path of the hub.
pub const READY: &str = "the supervisor is ready at ";
/// The begin of the line with the descriptor of a gateway that was built. The process goes on at
/// the end of its standard input.
pub const BUILT: &str = "the gateway has descriptor ";

/// The names that exist, and their address.
const NAMES: [&str; 3] = ["app.example", "kept.example", "gone.example"];
const ADDRESS: &str = "203.0.113.7";

/// Runs the supervisor until the sandbox ends. `variable` returns the variables above.
///
/// # Errors
///
/// If the standard output is closed.
pub fn run_dialed_supervisor(variable: impl Fn(&str) -> Option<String>) -> io::Result<()> {
    let process = ProcessHandle::open(variable(SANDBOX).unwrap().parse().unwrap())?;
    let gateway = if let Some(netns) = passed(&variable, GATEWAY) {
        GatewayNetns::from_fd(netns, true)
    } else {
        let gateway = GatewayNetns::build(&process).unwrap();
        assert!(gateway.has_ipv6());
        writeln!(io::stdout(), "{BUILT}{}", gateway.as_fd().as_raw_fd())?;
        io::stdin().read_line(&mut String::new())?;
        gateway
    };
    let addresses = vec![ADDRESS.parse().unwrap()];
    let hosts = NAMES.map(|name| (name.parse().unwrap(), addresses.clone()));
    let config = DialedConfig {
        container: "box".parse().unwrap(),
        dossier: DossierSource::from(Dossier::new([("project".into(), "web".into())].into())),
        processes: SandboxProcesses::new(process),
        gateway: Some(gateway),
        policy: DialedPolicy::default(),
        requests: None,
        approver: None,
        kept_changed: Arc::default(),
        runtime_dir: RuntimeDir::new(variable(RUNTIME).unwrap()),
        published: Vec::new(),
        hold: HoldLimit::Forever,
        check_server_names: false,
        expects_operator: true,
        proxy: None,
        lookup: StaticHosts::from_iter(hosts),
        sockets: HostSockets,
        absent_names: Vec::new(),
        stand_in_key: [7; 16].into(),
        journal: passed(&variable, STATE).map(StateJournal::from_fd),
        asks_loopback: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let supervisor = DialedSupervisor::start(config).unwrap();
        assert_eq!(supervisor.state_not_restored(), None);
        writeln!(io::stdout(), "{READY}{}", supervisor.hub_path().display())?;
        supervisor.serve(CancellationToken::new()).await.unwrap();
        Ok(())
    })
}

/// Opens a descriptor that the parent process has passed.
fn passed(variable: &impl Fn(&str) -> Option<String>, name: &str) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", variable(name)?);
    let is_state = name == STATE;
    let file = File::options().read(true).write(is_state).open(path);
    Some(file.unwrap().into())
}
