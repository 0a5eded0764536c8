// SPDX-License-Identifier: Apache-2.0
//! Tests of entering real namespaces made by `unshare`, as root or as an ordinary user.
#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;

use terok_clearance_netns::{EnterError, EnterStep, NetnsRef, ProcessHandle, SocketSpec};
use test_support::namespaces::NamespaceHolder;

const OF_A_USER: &[&str] = &["--user", "--map-root-user", "--net"];

fn process(sandbox: &NamespaceHolder) -> ProcessHandle {
    ProcessHandle::open(sandbox.pid()).unwrap()
}

const EVERY: [SocketSpec; 7] = [
    SocketSpec::Netfilter,
    SocketSpec::Route,
    SocketSpec::SockDiag,
    SocketSpec::Udp4,
    SocketSpec::Udp6,
    SocketSpec::Tcp4,
    SocketSpec::Tcp6,
];

/// Asserts that sockets from `netns` see a network namespace with nothing but `lo`. The namespace's
/// identity (`SIOCGSKNS`) is not available to an ordinary user.
fn check_loopback_only(netns: &NetnsRef) {
    let route = netns.open_netlink_socket(SocketSpec::Route).unwrap();
    // RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, an all-zero ifinfomsg
    let mut request = vec![32, 0, 0, 0, 18, 0, 1, 3];
    request.resize(32, 0);
    let kernel = netlink_sys::SocketAddr::new(0, 0);
    route.send_to(&request, &kernel, 0).unwrap();
    let mut answer = vec![0; 65536];
    let got = route.recv(&mut &mut answer[..], 0).unwrap();
    let text = answer[..got]
        .iter()
        .map(|&byte| char::from(byte))
        .collect::<String>();
    assert_eq!(
        text.matches("\u{3}\0lo\0").count(),
        1,
        "one loopback: {text:?}"
    );
    let next = route.recv(&mut &mut answer[..], 0).unwrap();
    assert_eq!(
        answer[4..6],
        [3, 0],
        "NLMSG_DONE follows, no further link ({next} bytes)"
    );
}

#[test]
fn every_kind_of_socket_opens_in_the_current_namespace() {
    assert_eq!(
        NetnsRef::Current.open_sockets(&EVERY).unwrap().len(),
        EVERY.len()
    );
    let me = NetnsRef::OfProcess(ProcessHandle::current().unwrap());
    assert_eq!(me.open_sockets(&EVERY).unwrap().len(), EVERY.len());
}

#[test]
fn every_kind_of_socket_opens_in_a_sandbox_of_an_ordinary_user() {
    let sandbox = NamespaceHolder::start(OF_A_USER);
    let netns = NetnsRef::OfProcess(process(&sandbox));
    let opened = netns.open_sockets(&EVERY).unwrap();
    assert_eq!(opened.len(), EVERY.len());
    for fd in &opened {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:\t"))
            .unwrap();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert_ne!(flags & 0o2_000_000, 0, "close-on-exec: {info}");
    }
    check_loopback_only(&netns);
}

#[test]
fn the_owner_of_the_network_namespace_is_entered() {
    // The process is in a second user namespace without rights over its network.
    let nested = "unshare --user --map-root-user -- sh -c 'echo; exec cat'";
    let holder = NamespaceHolder::start_script(OF_A_USER, nested);
    let inner = innermost(holder.pid());
    let netns = NetnsRef::OfProcess(ProcessHandle::open(inner).unwrap());
    check_loopback_only(&netns);
    // The sockets have the owner's rights: they may list the ruleset.
    let socket = netns.open_netlink_socket(SocketSpec::Netfilter).unwrap();
    // NFT_MSG_GETGEN (10 << 8 | 16), NLM_F_REQUEST, family unspecified
    let request = [
        20, 0, 0, 0, 16, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    socket
        .send_to(&request, &netlink_sys::SocketAddr::new(0, 0), 0)
        .unwrap();
    let mut answer = vec![0; 4096];
    socket.recv(&mut &mut answer[..], 0).unwrap();
    assert_eq!(
        answer[4..6],
        [15, 10],
        "NFT_MSG_NEWGEN, not an error: {:?}",
        &answer[..24]
    );
}

/// Returns the last process of a chain of only children.
fn innermost(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children
        .split_whitespace()
        .next()
        .map_or(pid, |child| innermost(child.parse().unwrap()))
}

#[test]
fn a_namespace_file_can_be_entered() {
    let sandbox = NamespaceHolder::start(OF_A_USER);
    check_loopback_only(&NetnsRef::NamespaceFile(sandbox.netns_file().into()));
}

#[test]
fn a_threaded_process_can_enter_and_leaves_no_child_behind() {
    let sandbox = NamespaceHolder::start(OF_A_USER);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let netns = NetnsRef::OfProcess(process(&sandbox));
                for _ in 0..20 {
                    assert_eq!(netns.open_sockets(&EVERY).unwrap().len(), EVERY.len());
                }
            });
        }
    });
    let mut children = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let text = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().map(str::to_owned));
    }
    assert_eq!(children, [sandbox.pid().to_string()]);
}

#[test]
fn errors_carry_the_step_and_the_errno() {
    let none = File::open("/dev/null").unwrap();
    match NetnsRef::NamespaceFile(none.into()).open_sockets(&EVERY) {
        Err(EnterError::Failed {
            step: EnterStep::FindNamespaces,
            source,
        }) => {
            assert_eq!(source.raw_os_error(), Some(libc::ENOTTY));
        }
        other => panic!("{other:?}"),
    }

    // A namespace, but not of a network: found, then refused by setns.
    let wrong = File::open("/proc/self/ns/uts").unwrap();
    match NetnsRef::NamespaceFile(wrong.into()).open_sockets(&EVERY) {
        Err(EnterError::Failed {
            step: EnterStep::EnterNet,
            source,
        }) => {
            assert_eq!(source.raw_os_error(), Some(libc::EINVAL));
        }
        other => panic!("{other:?}"),
    }

    assert!(matches!(
        NetnsRef::Current.open_netlink_socket(SocketSpec::Udp4),
        Err(EnterError::Failed { .. })
    ));
}

#[test]
fn a_reference_to_an_ended_process_cannot_be_entered() {
    let sandbox = NamespaceHolder::start(OF_A_USER);
    let netns = NetnsRef::OfProcess(process(&sandbox));
    drop(sandbox);
    assert!(matches!(
        netns.open_sockets(&EVERY),
        Err(EnterError::ProcessEnded)
    ));
}

#[test]
fn more_sockets_than_one_message_carries_are_refused() {
    let sandbox = NamespaceHolder::start(OF_A_USER);
    let netns = NetnsRef::OfProcess(process(&sandbox));
    assert_eq!(
        netns.open_sockets(&[SocketSpec::Udp4; 16]).unwrap().len(),
        16
    );
    assert!(matches!(
        netns.open_sockets(&[SocketSpec::Udp4; 17]),
        Err(EnterError::TooManySockets(17))
    ));
    assert_eq!(netns.open_sockets(&[]).unwrap().len(), 0);
}
