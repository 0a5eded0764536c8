// SPDX-License-Identifier: Apache-2.0
//! `terok-clearance setup` and `uninstall`: a host that is set up by the one guards containers, and
//! is after the other as it was.

use std::time::Duration;

use super::guarded::{Host, guarded};
use super::machine::{Account, Machine, PROGRAM, told};
use super::podman::{Podman, SERVER, fetch};
use super::popups::PopupService;

/// Returns the files of a machine, without those that containers and systemd keep.
fn files(machine: &Machine, account: Account) -> String {
    let runtime = machine.runtime_directory(account);
    // The state directory has records and keys of the containers, which are the user's.
    let script = format!(
        "list() {{ find /etc /home /root /usr/local /usr/share /var/lib {runtime}/terok \
           -path '*/containers/storage' -prune -o -path /var/lib/containers -prune \
           -o -path /var/lib/systemd -prune -o -path '*/share/containers' -prune \
           -o -path '*/.local/state' -prune -o -path '*/.cache' -prune \
           -o -name hook-error.log -o \"$@\"; }}\n\
         list -printf '%p %y %m %u %l\\n'; list -newer /tmp/before -type f -exec sha256sum {{}} +; true"
    );
    machine.done(Account::Root, &script)
}

/// Returns the lines that only one of two texts has.
fn difference(before: &str, after: &str) -> Vec<String> {
    let only = |this: &str, other: &str, sign: char| {
        let other: std::collections::HashSet<_> = other.lines().collect();
        let lines = this.lines().filter(|line| !other.contains(line));
        lines
            .map(|line| format!("{sign}{line}"))
            .collect::<Vec<_>>()
    };
    [only(before, after, '-'), only(after, before, '+')].concat()
}

/// Sets a host up, starts a container whose question is answered, and takes all of it away.
fn sets_up_and_uninstalls(account: Account, options: &str) {
    let machine = Machine::boot();
    Podman::new(&machine, account, "crun");
    // Settings of the user's own, which stay.
    let (conf, home) = match account {
        Account::Operator => ("/home/op/.config/containers/containers.conf", "/home/op"),
        Account::Root => ("/etc/containers/containers.conf", "/root"),
    };
    machine.done(
        account,
        &format!(
            "mkdir -p $(dirname {conf}) && printf '# mine\\n[containers]\\n' >{conf} && \
             cd {home} && sleep 0.01 && touch /tmp/before"
        ),
    );
    let before = files(&machine, account);
    let setup = format!("{PROGRAM} setup {options}");
    machine.done(account, &format!("{setup} --dry-run"));
    assert_eq!(difference(&before, &files(&machine, account)), [""; 0]);
    machine.done(account, &setup);
    let set_up = files(&machine, account);
    assert_ne!(difference(&before, &set_up), [""; 0]);
    // Again: nothing to do.
    machine.done(account, &setup);
    assert_eq!(difference(&set_up, &files(&machine, account)), [""; 0]);

    let host = Host { machine, account };
    let mut operator = host.operator();
    let container = host.begin_fetch("dialed", "page");
    let question = operator.asked(SERVER);
    operator.decide(&question, 'a');
    let output = container.ends();
    assert!(
        output.status.success(),
        "{}\n{}",
        told(&output),
        host.messages()
    );
    assert_eq!(host.pages(), ["page"]);
    drop(operator);

    host.clearance("uninstall");
    let after = files(&host.machine, account);
    assert_eq!(difference(&before, &after), [""; 0]);
    assert_eq!(
        host.systemctl("list-units --all --plain --no-legend '*clearance*'"),
        ""
    );
    assert_eq!(
        host.systemctl("list-unit-files --plain --no-legend '*clearance*'"),
        ""
    );
}

#[test]
fn a_host_of_a_user_is_set_up_and_as_it_was_after_uninstall() {
    sets_up_and_uninstalls(Account::Operator, "--no-notifier");
}

#[test]
fn a_host_of_root_is_set_up_and_as_it_was_after_uninstall() {
    sets_up_and_uninstalls(Account::Root, "--no-notifier");
}

#[test]
fn a_host_with_the_classic_units_is_as_it_was_after_uninstall() {
    sets_up_and_uninstalls(Account::Operator, "--classic --notifier");
}

#[test]
fn a_connection_is_a_popup_and_a_click_lets_it_pass() {
    let machine = Machine::boot();
    Podman::new(&machine, Account::Operator, "crun");
    let mut popups = PopupService::start(&machine);
    machine.done(Account::Operator, &format!("{PROGRAM} setup --notifier"));
    let host = Host {
        machine,
        account: Account::Operator,
    };
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
    let machine = Machine::boot();
    Podman::new(&machine, Account::Operator, "crun");
    machine.done(Account::Operator, &format!("{PROGRAM} setup --no-notifier"));
    let host = Host {
        machine,
        account: Account::Operator,
    };
    for page in ["systemd", "listener"] {
        if page == "listener" {
            // A shell without a user manager, whose start socket is gone.
            host.systemctl("disable --now clearance-supervisor.socket");
            host.machine.done(
                Account::Root,
                "systemctl mask --now user@$(id -u op).service",
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
        let running = super::guarded::Running::of(&mut command);
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

/// A container of terok-shield is not ours: the hook says so.
#[test]
fn a_container_that_terok_shield_guards_is_refused() {
    let host = Host::set_up(Account::Operator);
    let shield = "--annotation terok.shield.state_dir=/home/op/state";
    let words = format!(
        "--rm {} {shield} bb:latest {}",
        guarded("dialed"),
        fetch("open")
    );
    let output = host.begin(&words).ends();
    assert!(!output.status.success(), "{}", told(&output));
    assert!(
        host.hook_errors()
            .contains("guarded by terok-shield already"),
        "{}",
        host.hook_errors()
    );
    // Without our annotation the hook does not run.
    let words = format!("--rm --network none {shield} bb:latest /bin/busybox true");
    assert!(host.begin(&words).ends().status.success());
}
