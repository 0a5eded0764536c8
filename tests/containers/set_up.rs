// SPDX-License-Identifier: Apache-2.0
//! Machines that are set up for guarded containers.

use std::fmt::Write as _;

use super::machine::{Account, Machine, PROGRAM};

/// Sets a user's account up by hand, with the files that `terok-clearance setup` writes.
pub(crate) fn by_hand(machine: &Machine, account: Account) {
    let (hooks, conf, units, systemctl, wanted) = match account {
        Account::Operator => (
            "/home/op/.local/share/terok-clearance/hooks.d",
            "/home/op/.config/containers/containers.conf",
            "/home/op/.config/systemd/user",
            "systemctl --user",
            "%t",
        ),
        Account::Root => (
            "/etc/terok-clearance/hooks.d",
            "/etc/containers/containers.conf",
            "/etc/systemd/system",
            "systemctl",
            "/run",
        ),
    };
    let mut script = format!("set -e; mkdir -p {hooks} {units} $(dirname {conf})\n");
    let mut write = |path: String, text: String| {
        writeln!(script, "cat >{path} <<'FILE'\n{text}\nFILE").unwrap();
    };
    for stage in ["createRuntime", "poststop"] {
        let hook = serde_json::json!({
            "version": "1.0.0",
            "hook": {"path": PROGRAM, "args": ["terok-clearance", "hook", stage]},
            "when": {"annotations": {"^org\\.terok\\.clearance\\.network$": ".*"}},
            "stages": [stage],
        });
        write(
            format!("{hooks}/terok-clearance-{stage}.json"),
            hook.to_string(),
        );
    }
    write(
        conf.to_owned(),
        format!("[engine]\nhooks_dir = [\"{hooks}\"]"),
    );
    write(
        format!("{units}/clearance-supervisor.socket"),
        format!(
            "[Socket]\nListenStream={wanted}/terok/containers/start.sock\nAccept=yes\n\
             SocketMode=0600\nDirectoryMode=0700\nMaxConnections=4096\n\
             [Install]\nWantedBy=sockets.target"
        ),
    );
    let environment = match account {
        Account::Operator => "",
        Account::Root => "Environment=XDG_RUNTIME_DIR=/run/user/0\n",
    };
    write(
        format!("{units}/clearance-supervisor@.service"),
        format!(
            "[Unit]\nCollectMode=inactive-or-failed\nStartLimitIntervalSec=30\nStartLimitBurst=20\n\
             [Service]\nType=notify\nNotifyAccess=main\nExecStart={PROGRAM} container-supervisor\n\
             FileDescriptorStoreMax=64\nRestart=on-failure\nRestartSec=100ms\n{environment}"
        ),
    );
    writeln!(
        script,
        "{systemctl} daemon-reload; {systemctl} start clearance-supervisor.socket"
    )
    .unwrap();
    machine.done(account, &script);
}
