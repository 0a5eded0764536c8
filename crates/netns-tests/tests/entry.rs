// SPDX-License-Identifier: Apache-2.0
//! An open socket keeps a network namespace alive; the end of its owner says when to let go.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use netns::{NetnsRef, ProcessHandle, SocketSpec};
use netns_tests::private_namespaces;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, bind, recv};

/// The kind of a message about a link that is gone, `RTM_DELLINK`.
const DELETED: [u8; 2] = 17_u16.to_ne_bytes();

#[tokio::test]
async fn a_namespace_is_gone_when_its_owner_is_and_the_sockets_are_dropped() {
    private_namespaces();
    let mut owner = Command::new("unshare")
        .args(["--net", "sh", "-c", "echo; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    // One end of a wire is here: it goes with the namespace that the other end is in.
    let pid = owner.id().to_string();
    let wire = [
        "link", "add", "here0", "type", "veth", "peer", "name", "there0", "netns", &pid,
    ];
    assert!(Command::new("ip").args(wire).status().unwrap().success());
    let is_there = || {
        let show = Command::new("ip").args(["link", "show", "here0"]).output();
        show.unwrap().status.success()
    };
    // RTMGRP_LINK: links that come, change and go, from now on.
    let links = NetnsRef::Current.open_socket(SocketSpec::Route).unwrap();
    bind(&links, &SocketAddrNetlink::new(0, 1)).unwrap();

    let process = ProcessHandle::open(owner.id()).unwrap();
    let place = NetnsRef::OfProcess(process.try_clone().unwrap());
    let sockets = place
        .open_sockets(&[SocketSpec::Netfilter, SocketSpec::Udp4])
        .unwrap();
    owner.kill().unwrap();
    process.wait_for_exit().await.unwrap();
    owner.wait().unwrap();
    assert!(is_there(), "the sockets hold it");

    drop(sockets);
    // `place` and `process` still are there: they hold nothing.
    let mut message = [0; 8192];
    loop {
        recv(&links, &mut message, RecvFlags::empty()).unwrap();
        if message[4..6] == DELETED {
            break;
        }
    }
    assert!(!is_there());
    drop((place, process));
}
