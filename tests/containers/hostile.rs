// SPDX-License-Identifier: Apache-2.0
//! What a workload and its image can do, and containers that cannot be guarded.

use super::guarded::{Host, WAYS, guarded};
use super::machine::{Account, told, until};
use super::podman::{SERVER, fetch};

#[test]
fn containers_that_could_go_around_the_rules_are_refused() {
    let host = Host::set_up(Account::Operator);
    let annotation = |way| format!("--annotation org.terok.clearance.network={way}");
    for way in WAYS {
        for (options, because) in [
            ("--network host", "network of the host"),
            ("--network none --cap-add NET_ADMIN", "CAP_NET_ADMIN"),
            (
                "--network none --cap-add NET_RAW --cap-drop NET_ADMIN",
                "CAP_NET_RAW",
            ),
            ("--network none --privileged", "CAP_NET_"),
        ] {
            let words = format!(
                "--rm {options} {} bb:latest {}",
                annotation(way),
                fetch("open")
            );
            let before = host.hook_errors().len();
            let output = host.begin(&words).ends();
            assert!(!output.status.success(), "{words}\n{}", told(&output));
            let errors = host.hook_errors();
            let told = told(&output);
            assert!(
                errors[before..].contains(because),
                "{words}\n{told}{errors}"
            );
        }
        // A connection of podman's own is not what the hook makes.
        for network in ["slirp4netns", "pasta"] {
            let words = format!(
                "--rm --network {network} --cap-drop NET_RAW,NET_ADMIN {} bb:latest {}",
                annotation(way),
                fetch("open")
            );
            let output = host.begin(&words).ends();
            assert!(!output.status.success(), "{words}\n{}", told(&output));
        }
    }
    assert_eq!(host.machine.events().len(), 0, "nothing leaves");
}

/// An image can carry annotations. A policy that the operator did not sign counts for nothing: its
/// container is refused, and the reason is said.
#[test]
fn the_annotations_of_an_image_open_nothing() {
    let host = Host::set_up(Account::Operator);
    let policy = r#"{"allow":["*"],"bypass":true}"#;
    // Podman gives a container the annotations of its image: those of an OCI manifest.
    let script = format!(
        "set -e; podman save --quiet --format oci-dir --output /tmp/hostile bb:latest\n\
         python3 - /tmp/hostile <<'PROGRAM'\n{ANNOTATE}\nPROGRAM\n\
         podman load --quiet --input /tmp/hostile | sed 's/.*: //' >/tmp/hostile.name\n\
         podman tag $(cat /tmp/hostile.name) hostile:latest"
    )
    .replace("POLICY", policy);
    host.machine.done(Account::Operator, &script);
    let _operator = host.operator();
    for way in WAYS {
        // Podman splits the value at commas and quotes.
        let forged = "--annotation org.terok.clearance.policy=allow-all bb:latest";
        for image in ["hostile:latest", forged] {
            let before = host.hook_errors().len();
            let words = format!("--rm {} {image} {}", guarded(way), fetch("open"));
            let output = host.begin(&words).ends();
            assert!(!output.status.success(), "{words}\n{}", told(&output));
            let errors = host.hook_errors();
            let because = "org.terok.clearance.policy does not count";
            let told = told(&output);
            assert!(
                errors[before..].contains(because),
                "{words}\n{told}{errors}"
            );
        }
    }
    assert_eq!(host.machine.events().len(), 0, "nothing leaves");
}

/// Adds annotations to the manifest of an image in a directory.
const ANNOTATE: &str = "\
import hashlib, json, pathlib, sys
blobs = pathlib.Path(sys.argv[1]) / 'blobs/sha256'
index = pathlib.Path(sys.argv[1]) / 'index.json'
listed = json.loads(index.read_text())
entry = listed['manifests'][0]
manifest = json.loads((blobs / entry['digest'].removeprefix('sha256:')).read_text())
manifest.setdefault('annotations', {}).update({
    'org.terok.clearance.policy': 'POLICY', 'org.terok.clearance.network': 'open'})
data = json.dumps(manifest).encode()
digest = hashlib.sha256(data).hexdigest()
(blobs / digest).write_bytes(data)
entry.update(digest='sha256:' + digest, size=len(data))
index.write_text(json.dumps(listed))";

/// A workload that has the operator's sockets can neither answer nor start a supervisor.
#[test]
fn a_workload_with_the_operators_sockets_cannot_answer() {
    let host = Host::set_up(Account::Operator);
    let mut operator = host.operator();
    let runtime = host.machine.runtime_directory(Account::Operator);
    host.machine.done(
        Account::Operator,
        "cp /usr/local/bin/terok-clearance ~/program; mkdir -p ~/shared; chmod 755 ~/program",
    );
    // The program is a dynamic one: with the host's libraries.
    let mounts = format!(
        "-v {runtime}:{runtime} -v /home/op/program:/program:ro -v /lib:/lib:ro -v /usr:/usr:ro \
         -v /lib64:/lib64:ro -v /home/op/shared:/shared"
    );
    for way in WAYS {
        let script = format!(
            "export PATH=/bin; ({fetch}; echo fetched $? >/shared/{way}) & \
             export XDG_RUNTIME_DIR={runtime} HOME=/; sleep 2; \
             /program list >/shared/{way}-list 2>&1; \
             for n in 0 1 2 3; do \
               /program allow $HOSTNAME:$n {way}:$n >>/shared/{way}-allow 2>&1; done; \
             printf \"{{}}\\n\" | nc -w 2 local:{runtime}/terok/containers/start.sock \
               >/shared/{way}-start 2>&1; echo done >>/shared/{way}-start; wait",
            fetch = fetch("open")
        );
        let words = format!(
            "--rm --name {way} {mounts} {} bb:latest sh -c '{script}'",
            guarded(way)
        );
        let container = host.begin(&words);
        let question = operator.asked(SERVER);
        let done = host.machine.path(&format!("/home/op/shared/{way}-start"));
        until(
            || std::fs::read_to_string(&done).is_ok_and(|text| text.contains("done")),
            || host.messages(),
        );
        assert_eq!(host.questions().len(), 1);
        assert_eq!(host.machine.events().len(), 0, "nothing leaves");
        operator.decide(&question, 'd');
        container.ends();
        let read = |name: &str| {
            let path = host.machine.path(&format!("/home/op/shared/{way}{name}"));
            std::fs::read_to_string(path).unwrap()
        };
        assert_eq!(read(""), "fetched 1\n");
        // It was tried: the program found the sockets and was refused.
        assert!(
            !read("-list").contains("no hub is running"),
            "{}",
            read("-list")
        );
        assert!(
            !read("-list").contains("error while loading"),
            "{}",
            read("-list")
        );
        assert!(!read("-start").contains("ready"), "{}", read("-start"));
    }
    assert_eq!(host.machine.events().len(), 0, "nothing leaves");
}
