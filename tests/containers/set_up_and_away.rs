// SPDX-License-Identifier: Apache-2.0
//! `setup` guards containers, and `uninstall` leaves the machine as it was.

use super::guarded::{Host, WAYS};
use super::machine::{Account, Machine, PROGRAM, told};
use super::podman::{Podman, SERVER};

/// Returns the files of an account, but for podman's images and the program's records.
fn files(machine: &Machine, account: Account) -> String {
    let places = match account {
        Account::Operator => "/home/op",
        Account::Root => "/etc /usr/local /root /var/lib/terok-clearance",
    };
    let script = format!(
        "for place in {places}; do [ -e $place ] || continue; find $place \
         \\( -path '*/share/containers' -o -path '*/.local/state' -o -path '*/.cache' \
         -o -path '*/cni' \\) -prune \
         -o -type d -printf '%p %m\\n' -o -printf '%p %m %l %s\\n'; done | sort; \
         cat /home/op/.config/containers/containers.conf /etc/containers/containers.conf \
         2>/dev/null || true"
    );
    machine.done(Account::Root, &script)
}

fn is_guarded_and_left_as_it_was(account: Account, options: &str) {
    let machine = Machine::boot();
    Podman::new(&machine, account, "crun");
    let conf = match account {
        Account::Operator => "/home/op/.config/containers/containers.conf",
        Account::Root => "/etc/containers/containers.conf",
    };
    let write = format!(
        "mkdir -p $(dirname {conf}); [ -e {conf} ] || printf '# mine\\n[engine]\\n' >{conf}; \
         mkdir -p ~/.local/state ~/.local/share"
    );
    machine.done(account, &write);
    let before = files(&machine, account);
    let host = Host { machine, account };
    host.clearance(&format!("setup {options}"));
    let installed = files(&host.machine, account);
    assert!(
        installed.contains("clearance-supervisor.socket"),
        "{installed}"
    );
    // Again: nothing to do.
    let again = host.clearance(&format!("setup {options}"));
    assert!(again.contains("there is nothing to do"), "{again}");
    assert_eq!(files(&host.machine, account), installed);
    let mut operator = host.operator();
    // The filtered way of root's containers is tested by `answers`.
    let ways = match account {
        Account::Operator => &WAYS[..],
        Account::Root => &WAYS[..1],
    };
    for way in ways {
        let mut container = host.begin_fetch(way, way);
        let question = operator.asked(SERVER);
        assert!(container.runs(), "{}", host.messages());
        let script = format!("{PROGRAM} uninstall");
        let refused = told(&host.machine.does(account, &script));
        assert!(
            refused.contains("guarded containers are running"),
            "{refused}"
        );
        operator.decide(&question, 'a');
        let output = container.ends();
        let page = format!("hello from {SERVER}\n");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            page,
            "{}",
            told(&output)
        );
        super::machine::until(
            || host.supervisor_units().is_empty(),
            || format!("a supervisor stays\n{}", host.messages()),
        );
    }
    drop(operator);
    host.clearance("uninstall");
    assert_eq!(files(&host.machine, account), before);
    let units =
        host.systemctl("list-units --all --plain --no-legend --type service,socket '*clearance*'");
    assert_eq!(units, "");
}

#[test]
fn a_users_host_is_set_up_and_left_as_it_was() {
    is_guarded_and_left_as_it_was(Account::Operator, "--notifier");
}

#[test]
fn the_machine_is_set_up_and_left_as_it_was() {
    is_guarded_and_left_as_it_was(Account::Root, "--no-notifier");
}

#[test]
fn the_classic_layout_is_set_up_and_left_as_it_was() {
    is_guarded_and_left_as_it_was(Account::Operator, "--notifier --classic");
}
