// SPDX-License-Identifier: Apache-2.0
//! `podman run`, `create` and `annotations`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::machine::{Machine, PROGRAM, Printed, write_script};

/// Runs `podman VERB` of this program with podman's store.
fn start(machine: &Machine, answer: &str, own: &[&str], podman: &[&str]) -> Printed {
    let store = machine.store();
    let mut words = vec![PROGRAM, "podman"];
    words.extend_from_slice(own);
    words.extend(store.iter().map(String::as_str));
    words.extend(Machine::limits());
    words.extend_from_slice(podman);
    machine.run_with_supervisor(answer, &words)
}

#[test]
fn a_dry_run_shows_the_command_and_why() {
    let machine = Machine::new();
    let shown = machine.run(&[
        PROGRAM,
        "podman",
        "run",
        "--dry-run",
        "--allow",
        "a.example:443",
        "-it",
        "-p",
        "8080:80",
        "--name",
        "my web",
        "alpine",
        "sh",
        "-c",
        "echo $HOME",
    ]);
    assert_eq!(shown.status, Some(0), "{shown:?}");
    let line = shown.stdout.lines().next().unwrap();
    assert!(line.starts_with(
        "/usr/bin/podman run --network none --cap-drop net_raw,net_admin --annotation \
         org.terok.clearance.network=dialed --annotation org.terok.clearance.policy=v1."
    ));
    let end = "--hooks-dir /usr/share/containers/oci/hooks.d --hooks-dir \
               /etc/terok-clearance/hooks.d -i -t --name 'my web' alpine sh -c 'echo $HOME'";
    assert!(line.ends_with(end), "{line}");
    assert!(shown.stdout.contains("goes around the firewall"));
    assert!(
        shown.stderr.contains("would be refused: the hook"),
        "{}",
        shown.stderr
    );
    let key = machine.path("home/.local/state/terok-clearance/containers.key");
    assert_eq!(
        fs::metadata(key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // For programs.
    let shown = machine.run(&[
        PROGRAM,
        "--json",
        "podman",
        "create",
        "--via=filtered",
        "--dry-run",
        "-v",
        "/a:/b",
        "img",
    ]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let command = shown["command"].as_array().unwrap();
    assert_eq!(command[1], "create");
    assert_eq!(command[command.len() - 3..], ["-v", "/a:/b", "img"]);
    assert_eq!(
        shown["added"][0]["arguments"],
        serde_json::json!(["--network", "none"])
    );
    assert!(
        shown["faults"][0]["remedy"]
            .as_str()
            .unwrap()
            .contains("setup")
    );
}

#[test]
fn what_defeats_the_guard_is_refused_with_status_125() {
    let machine = Machine::new().with_hooks();
    let home = format!("{}:/h", machine.path("home").display());
    for (arguments, expected) in [
        (&["-v", &home, "img"][..], "answer its own questions"),
        (&["--rootfs", "/", "sh"], "answer its own questions"),
        (
            &["--network", "host", "img"],
            "--network host is not guarded",
        ),
        (&["--privileged", "img"], "--privileged is refused"),
        (
            &["--cap-add=NET_RAW", "img"],
            "--cap-add NET_RAW is refused",
        ),
        (&["--dns", "192.0.2.1", "img"], "--dns is refused"),
        (&["--rm"], "no image"),
        (&["--new-option", "img"], "--new-option=VALUE"),
    ] {
        let refused = machine.run(&[&[PROGRAM, "podman", "run"][..], arguments].concat());
        assert_eq!(refused.status, Some(125), "{refused:?}");
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

#[test]
fn without_hooks_nothing_is_started() {
    let machine = Machine::new();
    let podman = machine.path("podman");
    write_script(&podman, "#!/bin/sh\necho started\n");
    let path = format!("PATH={}:/usr/bin:/bin", machine.path("").display());
    let refused = machine.run(&["env", &path, PROGRAM, "podman", "run", "img"]);
    assert_eq!(refused.status, Some(125), "{refused:?}");
    assert_eq!(refused.stdout, "");
    assert!(
        refused.stderr.contains("would not be guarded: the hook"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("hint: run `terok-clearance setup`"));
    // A broken hook is as bad as none.
    let machine = machine.with_hooks();
    let hook = machine.path("hooks/terok-clearance-createRuntime.json");
    fs::write(hook, "{}").unwrap();
    let refused = machine.run(&["env", &path, PROGRAM, "podman", "run", "img"]);
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(125), ""));
    assert!(refused.stderr.contains("not usable"), "{}", refused.stderr);
    // Elsewhere, nothing can be proven.
    let remote = machine.run(&[
        "env",
        "CONTAINER_HOST=ssh://x",
        PROGRAM,
        "podman",
        "run",
        "img",
    ]);
    assert_eq!(remote.status, Some(125));
    assert!(remote.stderr.contains("CONTAINER_HOST"));
}

#[test]
fn a_guarded_container_starts_after_the_supervisor_is_ready() {
    let machine = Machine::new().with_hooks().with_image();
    let script = "echo from inside; cat; exit 7";
    let ran = start(
        &machine,
        "ready",
        &["run", "--allow", "a.example"],
        &[
            "--rm",
            "-i",
            "-p",
            "8080:80",
            "bb:latest",
            "sh",
            "-c",
            script,
        ],
    );
    assert_eq!(ran.status, Some(7), "{ran:?}");
    assert_eq!(ran.stdout, "from inside\n");
    let requests = machine.requests();
    let request = &requests[0];
    assert_eq!(request["network"], "dialed");
    let policy = request["annotations"]["org.terok.clearance.policy"]
        .as_str()
        .unwrap();
    assert!(policy.starts_with("v1."));
    assert_eq!(request["annotations"]["dossier.meta_path"], "");
}

#[test]
fn the_reason_of_a_refusing_hook_is_printed() {
    let machine = Machine::new().with_hooks().with_image();
    let refused = start(
        &machine,
        "refuse",
        &["run"],
        &["--rm", "bb:latest", "sh", "-c", "echo started"],
    );
    assert_eq!(refused.stdout, "", "{refused:?}");
    assert!(matches!(refused.status, Some(126 | 127)), "{refused:?}");
    let line = refused
        .stderr
        .lines()
        .find(|line| line.starts_with("hook: "));
    let line = line.unwrap_or_else(|| panic!("{}", refused.stderr));
    assert!(line.contains("reason") && !line.contains('\x1b'), "{line}");
}

#[test]
fn a_pod_has_no_network_or_is_refused() {
    let machine = Machine::new().with_hooks().with_image();
    let store = machine.store();
    let store = store.iter().map(String::as_str);
    let podman = |words: &[&str]| {
        let all = ["podman"].into_iter().chain(words.iter().copied());
        let made = machine.run(&all.chain(store.clone()).collect::<Vec<_>>());
        assert_eq!(made.status, Some(0), "{made:?}");
    };
    podman(&["pod", "create", "--name", "closed", "--network", "none"]);
    podman(&["pod", "create", "--name", "apart", "--infra=false"]);
    podman(&["pod", "create", "--name", "open", "--network", "host"]);
    // The pods are in the test's store, to which only options before the command lead here.
    let wrapper = machine.path("podman");
    let options: Vec<_> = store.clone().collect();
    write_script(
        &wrapper,
        &format!(
            "#!/bin/sh\nexec /usr/bin/podman {} \"$@\"\n",
            options.join(" ")
        ),
    );
    let path = format!("PATH={}:/usr/bin:/bin", machine.path("").display());
    let create = |pod: &str| {
        machine.run_with_supervisor(
            "ready",
            &[
                "env",
                &path,
                PROGRAM,
                "podman",
                "create",
                "--dry-run",
                "--pod",
                pod,
                "bb:latest",
            ],
        )
    };
    let closed = create("closed");
    assert!(closed.stdout.contains("create --cap-drop"), "{closed:?}");
    let apart = create("apart");
    assert!(apart.stdout.contains("create --network none"), "{apart:?}");
    let open = create("open");
    assert_eq!(open.status, Some(125), "{open:?}");
    assert!(
        open.stderr
            .contains("the network host, which is not guarded")
    );
    assert!(
        create("none")
            .stderr
            .contains("cannot look at the pod none")
    );
}

#[test]
fn annotations_have_the_form_of_their_place() {
    let machine = Machine::new();
    let print = |form: &[&str]| {
        let mut words = vec![PROGRAM, "podman", "annotations", "--allow", "a.example"];
        words.extend_from_slice(form);
        let shown = machine.run(&words);
        assert_eq!(shown.status, Some(0), "{shown:?}");
        shown.stdout
    };
    let arguments = print(&[]);
    let policy = arguments.split("policy=").nth(1).unwrap();
    let policy = policy.split(' ').next().unwrap();
    assert_eq!(
        arguments,
        format!(
            "--network none --cap-drop net_raw,net_admin --annotation \
             org.terok.clearance.network=dialed --annotation org.terok.clearance.policy={policy} \
             --annotation dossier.meta_path=\n"
        )
    );
    assert_eq!(
        print(&["--form", "quadlet"]),
        format!(
            "Network=none\nDropCapability=NET_RAW NET_ADMIN\n\
             Annotation=org.terok.clearance.network=dialed\n\
             Annotation=org.terok.clearance.policy={policy}\nAnnotation=dossier.meta_path=\n"
        )
    );
    assert_eq!(
        print(&["--form", "compose"]),
        format!(
            "network_mode: none\ncap_drop: [NET_RAW, NET_ADMIN]\nannotations:\n  \
             org.terok.clearance.network: \"dialed\"\n  \
             org.terok.clearance.policy: \"{policy}\"\n  dossier.meta_path: \"\"\n"
        )
    );
    let json: Value = serde_json::from_str(&print(&["--json"])).unwrap();
    assert_eq!(json["annotations"]["org.terok.clearance.policy"], policy);
    // podman takes the arguments as they are.
    let machine = machine.with_image();
    let store = machine.store();
    let script = format!("podman create {} {arguments} bb:latest sh", store.join(" "));
    let script = script.replace('\n', " ");
    let made = machine.run(&["sh", "-c", &script]);
    assert_eq!(made.status, Some(0), "{made:?}");
}

#[test]
fn a_key_that_others_can_read_stops_the_start() {
    let machine = Machine::new().with_hooks();
    assert_eq!(
        machine.run(&[PROGRAM, "podman", "annotations"]).status,
        Some(0)
    );
    let key = machine.path("home/.local/state/terok-clearance/containers.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = machine.run(&[PROGRAM, "podman", "annotations"]);
    assert_eq!(refused.status, Some(125), "{refused:?}");
    assert!(refused.stderr.contains("mode 644"), "{}", refused.stderr);
    assert_eq!(fs::read(&key).unwrap().len(), 32);
}

/// A stand-in for podman-compose, which calls podman as it does: a pod, a network, a container.
const COMPOSE: &str = r#"#!/bin/sh
set -e
[ "$1" = --podman-path ]
podman=$2; shift 2
echo "$podman" > "$(dirname "$0")/engine"
store=$(cat "$(dirname "$0")/options")
"$podman" --version
"$podman" create $store --name p_web_1 --network=p_default:alias=web --network-alias web \
  -p 8080:80 bb:latest sh -c 'echo from the service'
"$podman" start $store -a p_web_1
"$podman" create $store --name bad --privileged bb:latest sh
"#;

#[test]
fn compose_guards_each_container() {
    let machine = Machine::new().with_hooks().with_image();
    let options = [
        machine.store(),
        Machine::limits().map(str::to_owned).to_vec(),
    ]
    .concat();
    fs::write(machine.path("options"), machine.store().join(" ")).unwrap();
    let compose = COMPOSE.replace("create $store", &format!("create {}", options.join(" ")));
    write_script(&machine.path("podman-compose"), &compose);
    let path = format!(
        "PATH={}:/usr/local/bin:/usr/bin:/bin:/usr/sbin",
        machine.path("").display()
    );
    // `podman start` gets no --hooks-dir: podman's configuration must name the directory.
    let configuration = machine.path("containers.conf");
    let text = "[engine]\nhooks_dir = [\"/etc/terok-clearance/hooks.d\"]\n";
    fs::write(&configuration, text).unwrap();
    let configuration = format!("CONTAINERS_CONF={}", configuration.display());
    let words = ["env", &path, &configuration, PROGRAM, "podman", "compose"];
    let words = [&words[..], &["--allow", "a.example:443", "up"]].concat();
    let ran = machine.run_with_supervisor("ready", &words);
    assert!(ran.stdout.contains("podman version"), "{ran:?}");
    assert!(ran.stdout.ends_with("from the service\n"), "{ran:?}");
    assert_eq!(ran.status, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("--privileged is refused"), "{ran:?}");
    assert_eq!(machine.requests()[0]["network"], "dialed");
    let engine = fs::read_to_string(machine.path("engine")).unwrap();
    assert!(!std::path::Path::new(engine.trim()).exists());
    // Without the configuration nothing is created that would start without a hook.
    let words = ["env", &path, PROGRAM, "podman", "compose", "up"];
    let refused = machine.run_with_supervisor("ready", &words);
    assert_eq!(refused.status, Some(125), "{refused:?}");
    assert!(
        refused.stderr.contains("does not name the hooks directory"),
        "{refused:?}"
    );
}
