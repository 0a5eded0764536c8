// SPDX-License-Identifier: Apache-2.0
//! Containers that share a network namespace.

use super::guarded::{Host, WAYS, guarded};
use super::machine::{Account, told, until};
use super::podman::{SERVER, fetch};

/// Creates a pod whose infra container asks for no way out.
fn create(host: &Host) {
    host.podman()
        .done("pod create --name pod --network none --infra=true");
}

fn member(way: &str, command: &str) -> String {
    let options = guarded(way).replace("--network none", "--pod pod");
    format!("--rm {options} bb:latest {command}")
}

#[test]
fn the_containers_of_a_pod_have_one_supervisor() {
    let host = Host::set_up(Account::Operator);
    let mut operator = host.operator();
    for way in WAYS {
        create(&host);
        // Both start at the same moment.
        let pages = ["first", "second"].map(|page| format!("{way}-{page}"));
        let both = pages
            .each_ref()
            .map(|page| host.begin(&member(way, &fetch(page))));
        let question = operator.asked(SERVER);
        assert_eq!(
            host.supervisor_units().lines().count(),
            1,
            "{}",
            host.supervisor_units()
        );
        operator.decide(&question, 'a');
        for container in both {
            let output = container.ends();
            assert!(
                output.status.success(),
                "{way}: {}\n{}",
                told(&output),
                host.messages()
            );
        }
        for page in pages {
            assert!(host.pages().contains(&page));
        }
        // The server of one is reached by the other, without a question.
        let server = host.begin(&member(way, "nc -l -p 7000 -e echo inside"));
        let reached = member(way, "sh -c \"until nc 127.0.0.1 7000; do sleep 0.1; done\"");
        let output = host.begin(&reached).ends();
        assert!(told(&output).contains("inside"), "{}", told(&output));
        server.ends();
        // The last one ends the supervisor.
        until(
            || host.supervisor_units().is_empty(),
            || host.supervisor_units(),
        );
        host.podman().done("pod rm --force --time 0 pod");
    }
    assert_eq!(operator.other_questions(), [""; 0]);
}
