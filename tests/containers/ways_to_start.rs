// SPDX-License-Identifier: Apache-2.0
//! Popups of a host that is set up, and `podman run` of this program, also without systemd.

use std::time::Duration;

use super::guarded::{Host, Running, guarded};
use super::machine::{Account, PROGRAM, told};
use super::podman::{SERVER, fetch};
use super::popups::PopupService;

#[test]
fn a_connection_is_a_popup_and_a_click_lets_it_pass() {
    let host = Host::set_up(Account::Operator);
    let mut popups = PopupService::start(&host.machine);
    host.clearance("setup --notifier");
    for (button, page) in [("deny", "refused"), ("allow", "clicked")] {
        let container = host.begin_fetch("dialed", page);
        let id = popups.popup(&format!("Blocked: {SERVER}:80"));
        assert!(!host.pages().contains(&page.to_owned()));
        // A click at a popup that has just come counts for nothing.
        std::thread::park_timeout(Duration::from_millis(1300));
        popups.click(id, button);
        let output = container.ends();
        let told = told(&output);
        if button == "allow" {
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                format!("hello from {SERVER}\n"),
                "{told}\n{}",
                host.messages()
            );
        } else {
            assert!(
                told.contains("onnection refused"),
                "{told}\n{}",
                host.messages()
            );
        }
    }
    assert_eq!(host.pages(), ["clicked"]);
}

/// The wrapper does what the options of podman do, also without systemd.
#[test]
fn podman_run_guards_with_and_without_systemd() {
    let host = Host::set_up(Account::Operator);
    for page in ["systemd", "listener"] {
        if page == "listener" {
            // A shell without a user manager, whose start socket is gone.
            host.systemctl("disable --now clearance-supervisor.socket");
            host.machine.done(
                Account::Root,
                "unit=user@$(id -u op).service; systemctl mask $unit && \
                 systemctl kill --signal KILL $unit && \
                 while systemctl is-active --quiet $unit; do sleep 0.05; done",
            );
            host.machine.done(
                Account::Root,
                "d=/run/user/$(id -u op); mkdir -p $d && chown op: $d && chmod 700 $d",
            );
        }
        let script = format!(
            "exec {PROGRAM} podman run --rm --cgroups=disabled bb:latest {}",
            fetch(page)
        );
        let mut command = host.machine.command(Account::Operator, &script);
        let mut operator = host.operator();
        let running = Running::of(&mut command);
        let question = operator.asked(SERVER);
        operator.decide(&question, 'a');
        let output = running.ends();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("hello from {SERVER}\n"),
            "{page}: {}\n{}",
            told(&output),
            host.messages()
        );
    }
    assert_eq!(host.pages(), ["listener", "systemd"]);
    // podman alone is refused where there is no supervisor to start.
    let listener = "pkill -f 'container-supervisor --[l]isten'; true";
    host.machine.done(Account::Root, listener);
    let words = format!("--rm {} bb:latest {}", guarded("dialed"), fetch("open"));
    assert!(!host.begin(&words).ends().status.success());
    assert_eq!(host.pages().len(), 2);
}
