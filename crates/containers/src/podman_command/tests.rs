// SPDX-License-Identifier: Apache-2.0
//! Tests of podman's command lines.

use proptest::prelude::*;

use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(Into::into).collect()
}

fn parse(line: &str) -> Result<GuardableCommand, PodmanRefusal> {
    PodmanCommandLine::parse(PodmanVerb::Run, &words(line))?.check(NetworkOptions::Refuse)
}

fn guard_arguments() -> GuardArguments {
    GuardArguments {
        network: ContainerNetwork::Dialed,
        policy: "v1.e30.00".into(),
        hooks_directories: Vec::new(),
        has_proxy_variables: false,
    }
}

/// Returns what podman gets after the guard's arguments.
fn passed_on(line: &str) -> String {
    let command = parse(line).unwrap();
    let guarded = command.guard(&guard_arguments());
    let added: usize = guarded.added.iter().map(|added| added.words.len()).sum();
    let rest: Vec<_> = guarded.arguments[1 + added..]
        .iter()
        .map(|word| word.to_str().unwrap())
        .collect();
    rest.join(" ")
}

#[test]
fn real_command_lines_are_split_at_the_image() {
    for (line, image, rest) in [
        ("alpine", "alpine", ""),
        ("alpine sh -c x", "alpine", "sh -c x"),
        (
            "--rm -it docker.io/library/alpine:3 sh",
            "docker.io/library/alpine:3",
            "sh",
        ),
        ("-itd --name web nginx", "nginx", ""),
        (
            "-v /a:/b -e A=1 -w /b -u 1000:1000 img ls -p 1",
            "img",
            "ls -p 1",
        ),
        ("-v/a:/b -eA=1 img -it", "img", "-it"),
        (
            "--rm=true --tls-verify img --privileged",
            "img",
            "--privileged",
        ),
        ("--tls-verify=false img", "img", ""),
        (
            "--mount type=bind,src=/a,dst=/b --entrypoint /bin/sh img -c true",
            "img",
            "-c true",
        ),
        (
            "--security-opt label=disable --userns keep-id --group-add keep-groups img",
            "img",
            "",
        ),
        ("--env-file f --label a=b -l c=d img", "img", ""),
        ("--init --read-only --tmpfs /tmp img x", "img", "x"),
        ("--restart always --health-cmd none -d img", "img", ""),
        ("--healthcheck-command none img", "img", ""),
        (
            "--cgroup-manager cgroupfs --root /r --runtime runc --log-level debug img",
            "img",
            "",
        ),
        (
            "--ulimit nofile=1024:1024 --pids-limit 0 img true",
            "img",
            "true",
        ),
        ("--net none img", "img", ""),
        ("-- img --net host", "img", "--net host"),
        ("-i -- img -- x", "img", "-- x"),
        ("--rootfs /var/root sh", "/var/root", "sh"),
        ("--new-option=5 img", "img", ""),
        ("--preserve-fds 2 --sig-proxy=false img", "img", ""),
        ("--pod web img", "img", ""),
        ("-h host img", "img", ""),
        ("-m 512m --cpus 1.5 -c 512 img", "img", ""),
        ("--add-host a:192.0.2.1 img", "img", ""),
    ] {
        let found = PodmanCommandLine::parse(PodmanVerb::Run, &words(line)).unwrap();
        assert_eq!(found.image, image, "{line}");
        assert_eq!(found.rest, words(rest), "{line}");
        assert!(found.check(NetworkOptions::Refuse).is_ok(), "{line}");
    }
}

#[test]
fn arguments_of_podman_are_passed_on() {
    for (line, expected) in [
        ("-it --rm img sh", "-i -t --rm img sh"),
        ("-dp 8080:80 img", "-d img"),
        ("-p8080:80 -v /a:/b img", "-v /a:/b img"),
        ("--publish=8080:80,9090:90/udp img", "img"),
        ("--network none --network=none img", "img"),
        ("-- -odd x", "-- -odd x"),
        ("-- img x", "img x"),
        ("-i=false -eA=1 img", "-i=false -e A=1 img"),
        (
            "--annotation a=b --cap-add chown img",
            "--annotation a=b --cap-add chown img",
        ),
        (
            "--publish-all=false --privileged=false img",
            "--publish-all=false --privileged=false img",
        ),
        ("--pid private img", "--pid private img"),
    ] {
        assert_eq!(passed_on(line), expected, "{line}");
    }
}

#[test]
fn what_defeats_the_guard_is_refused() {
    let check = |line: &str, expected: &str| {
        let refusal = parse(line).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{line}: {refusal}");
    };
    for network in [
        "host",
        "bridge",
        "container:web",
        "ns:/run/netns/x",
        "slirp4netns",
        "pasta",
        "private",
        "mynet",
        "",
    ] {
        check(&format!("--network={network} img"), "is not guarded");
        check(&format!("--net={network} img"), "is not guarded");
    }
    check("--network none --network host img", "--network host");
    for capability in [
        "NET_RAW",
        "net_admin",
        "CAP_NET_RAW",
        "cap_sys_admin",
        "all",
        "chown,net_raw",
        "\"CHOWN\",\"NET_RAW\"",
        "SYS_MODULE",
    ] {
        check(&format!("--cap-add {capability} img"), "goes around");
        check(&format!("--cap-add={capability} img"), "goes around");
    }
    check("--privileged img", "--privileged is refused");
    check("--privileged=true img", "--privileged is refused");
    check("--pid host img", "--pid host");
    check("--pid=container:x img", "--pid container:x");
    check("--hooks-dir /x img", "--hooks-dir");
    check(
        "--annotation org.terok.clearance.policy=x img",
        "annotation",
    );
    check(
        "--annotation a=b,org.terok.clearance.network=dialed img",
        "annotation",
    );
    check(
        "--annotation \"a=b\",\"org.terok.clearance.network=x\" img",
        "annotation",
    );
    check("--runtime /usr/bin/runsc img", "--runtime");
    check("--dns 192.0.2.1 img", "--dns is refused");
    check("--dns-opt x img", "--dns-option is refused");
    check("--ip 192.0.2.1 img", "--ip is refused");
    check("-P img", "--publish-all");
    check("-tP img", "--publish-all");
    check("-p 80-90:80-90 img", "range");
}

#[test]
fn networks_of_compose_programs_are_left_out() {
    let check = |line: &str| {
        let parsed = PodmanCommandLine::parse(PodmanVerb::Create, &words(line))?;
        parsed.check(NetworkOptions::LeaveOut)
    };
    let line = "--network=p_default:alias=web --network-alias web --dns 192.0.2.1 --ip 10.0.0.2 \
                -p 8080:80 -d img";
    let command = check(line).unwrap();
    let guarded = command.guard(&guard_arguments());
    assert_eq!(guarded.arguments[1..3], words("--network none"));
    assert!(guarded.arguments.ends_with(&words("-d img")));
    let left = guarded
        .arguments
        .iter()
        .filter(|word| **word == "--network");
    assert_eq!(left.count(), 1);
    assert_eq!(command.publish().len(), 1);
    for shared in ["host", "container:x", "ns:/run/x"] {
        let refused = check(&format!("--network {shared} img"));
        assert_eq!(refused, Err(PodmanRefusal::Network(shared.to_owned())));
    }
    assert_eq!(check("--privileged img"), Err(PodmanRefusal::Privileged));
}

#[test]
fn an_image_that_cannot_be_found_is_refused() {
    let parse = |line: &str| PodmanCommandLine::parse(PodmanVerb::Run, &words(line));
    for (line, expected) in [
        ("", PodmanRefusal::NoImage),
        ("--rm", PodmanRefusal::NoImage),
        ("--rm --", PodmanRefusal::NoImage),
        ("--name", PodmanRefusal::MissingValue("name")),
        ("-v", PodmanRefusal::MissingValue("volume")),
        (
            "--unknown img",
            PodmanRefusal::UnknownOption("unknown".into()),
        ),
        ("-Z img", PodmanRefusal::UnknownLetter('Z')),
        ("-iZ img", PodmanRefusal::UnknownLetter('Z')),
        ("--=x img", PodmanRefusal::UnknownOption(String::new())),
        ("--privileged=true", PodmanRefusal::NoImage),
    ] {
        assert_eq!(parse(line), Err(expected), "{line}");
    }
    // podman takes the next argument for the value, whatever it looks like.
    assert_eq!(
        parse("--name --rm img").unwrap().value_of("name").unwrap(),
        "--rm"
    );
}

#[test]
fn what_the_supervisor_needs_is_taken_out() {
    let command = parse("-p 8080:80 --name web --pod new:p -p 127.0.0.1:53:53/udp img").unwrap();
    let ports: Vec<_> = command.publish().iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["8080:80", "127.0.0.1:53:53/udp"]);
    assert_eq!(command.name(), Some("web"));
    assert_eq!(command.pod(), Some(&PodChoice::New));
    assert_eq!(
        parse("--pod p img").unwrap().pod(),
        Some(&PodChoice::Existing("p".into()))
    );
}

#[test]
fn the_guard_adds_what_it_needs_and_says_why() {
    let lines = |line: &str, guard: &GuardArguments| {
        let guarded = parse(line).unwrap().guard(guard);
        let texts = guarded.arguments.iter().map(|word| word.to_str().unwrap());
        texts.collect::<Vec<_>>().join(" ")
    };
    let mut guard = guard_arguments();
    assert_eq!(
        lines("-it img sh", &guard),
        "run --network none --cap-drop net_raw,net_admin \
         --annotation org.terok.clearance.network=dialed \
         --annotation org.terok.clearance.policy=v1.e30.00 --annotation dossier.meta_path= \
         -i -t img sh"
    );
    guard.hooks_directories = vec!["/a".into(), "/b".into()];
    guard.has_proxy_variables = true;
    guard.network = ContainerNetwork::Filtered;
    assert_eq!(
        lines("--pod p --annotation dossier.meta_path=/m img", &guard),
        "run --cap-drop net_raw,net_admin --annotation org.terok.clearance.network=filtered \
         --annotation org.terok.clearance.policy=v1.e30.00 --http-proxy=false --hooks-dir /a \
         --hooks-dir /b --pod p --annotation dossier.meta_path=/m img"
    );
    assert!(!lines("--http-proxy img", &guard).contains("--http-proxy=false"));
}

/// Options with which a command line is still guardable.
fn harmless_option() -> impl Strategy<Value = Vec<String>> {
    let value = "[a-z/:=.]{0,12}";
    prop_oneof![
        Just(vec!["--rm".into()]),
        Just(vec!["-it".into()]),
        Just(vec!["-d".into()]),
        Just(vec!["--network".into(), "none".into()]),
        (1_u16..).prop_map(|port| vec!["-p".into(), format!("{port}:80")]),
        value.prop_map(|value| vec!["-v".into(), value]),
        value.prop_map(|value| vec![format!("--env={value}")]),
        value.prop_map(|value| vec!["--entrypoint".into(), value]),
        ".{0,12}".prop_map(|value| vec!["--label".into(), value]),
        ".{0,12}".prop_map(|value| vec![format!("-e{value}x")]),
        value.prop_map(|value| vec![format!("--future-option={value}")]),
    ]
}

proptest! {
    #[test]
    fn the_image_and_its_arguments_are_never_changed(
        options in prop::collection::vec(harmless_option(), 0..8),
        has_dashes in any::<bool>(),
        image in "[a-z][a-z0-9./:-]{0,20}",
        rest in prop::collection::vec(".{0,12}", 0..6),
    ) {
        let mut line: Vec<OsString> = options.concat().into_iter().map(Into::into).collect();
        if has_dashes {
            line.push("--".into());
        }
        line.push(image.clone().into());
        line.extend(rest.iter().map(OsString::from));
        let command = PodmanCommandLine::parse(PodmanVerb::Create, &line).unwrap();
        let command = command.check(NetworkOptions::Refuse).unwrap();
        let guarded = command.guard(&guard_arguments());
        // At the end, the image and what follows, as they were.
        let tail = guarded.arguments.len() - rest.len() - 1;
        prop_assert_eq!(&guarded.arguments[tail], &OsString::from(&image));
        let after: Vec<_> = rest.iter().map(OsString::from).collect();
        prop_assert_eq!(&guarded.arguments[tail + 1..], &after[..]);
        // At the beginning, the guard.
        let added: Vec<_> = guarded.added.iter().flat_map(|added| &added.words).collect();
        for (found, expected) in guarded.arguments[1..].iter().zip(&added) {
            prop_assert_eq!(found, *expected);
        }
        for needed in ["--network", "--cap-drop", "--annotation"] {
            prop_assert!(added.iter().any(|word| *word == needed));
        }
        // What podman gets is split the same way.
        let again = PodmanCommandLine::parse(PodmanVerb::Create, &guarded.arguments[1..]).unwrap();
        prop_assert_eq!(&again.image, &OsString::from(&image));
        prop_assert_eq!(&again.rest, &after);
        let networks = again.options.iter().filter(|option| option.name == "network");
        prop_assert_eq!(networks.count(), 1);
    }

    #[test]
    fn no_command_line_passes_with_something_refused(
        before in prop::collection::vec(harmless_option(), 0..5),
        refused in prop::sample::select(vec![
            "--privileged", "--network=host", "--net=bridge", "--cap-add=NET_RAW",
            "--cap-add=all", "--hooks-dir=/x", "--pid=host", "-P",
            "--annotation=org.terok.clearance.policy=x",
        ]),
        after in prop::collection::vec(harmless_option(), 0..5),
    ) {
        let line = [before.concat(), vec![refused.into()], after.concat(), vec!["img".into()]];
        let line: Vec<OsString> = line.concat().into_iter().map(Into::into).collect();
        let found = PodmanCommandLine::parse(PodmanVerb::Run, &line).unwrap();
        let found = found.check(NetworkOptions::Refuse);
        prop_assert!(found.is_err());
    }

    #[test]
    fn hostile_command_lines_do_not_panic(line in prop::collection::vec(".{0,10}", 0..8)) {
        let line: Vec<OsString> = line.into_iter().map(Into::into).collect();
        if let Ok(command) = PodmanCommandLine::parse(PodmanVerb::Run, &line)
            && let Ok(command) = command.check(NetworkOptions::Refuse)
        {
            drop(command.guard(&guard_arguments()));
        }
    }
}
