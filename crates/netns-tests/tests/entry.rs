// SPDX-License-Identifier: Apache-2.0
//! Tests of the lifetime of network namespaces: open sockets keep one alive.

use std::process::Command;

use netns::{NetnsRef, ProcessHandle, SocketSpec};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, bind, recv};
use test_support::namespaces::{NamespaceHolder, ip, require_private_namespaces};

/// The type of messages about removed links, `RTM_DELLINK`.
const DELETED: [u8; 2] = 17_u16.to_ne_bytes();

#[tokio::test]
async fn a_namespace_ends_with_its_owner_and_its_sockets() {
    require_private_namespaces();
    let mut owner = NamespaceHolder::start(&["--net"]);
    // The near end of a veth pair disappears with the namespace of the far end.
    let pid = owner.pid();
    ip(&format!(
        "link add here0 type veth peer name there0 netns {pid}"
    ));
    let is_there = || {
        let show = Command::new("ip").args(["link", "show", "here0"]).output();
        show.unwrap().status.success()
    };
    // RTMGRP_LINK: changes of links from now on.
    let links = NetnsRef::Current.open_socket(SocketSpec::Route).unwrap();
    bind(&links, &SocketAddrNetlink::new(0, 1)).unwrap();

    let process = ProcessHandle::open(owner.pid()).unwrap();
    let netns = NetnsRef::OfProcess(process.try_clone().unwrap());
    let sockets = netns
        .open_sockets(&[SocketSpec::Netfilter, SocketSpec::Udp4])
        .unwrap();
    owner.kill();
    process.wait_for_exit().await.unwrap();
    drop(owner);
    assert!(is_there(), "the sockets keep the namespace alive");

    drop(sockets);
    // `netns` and `process` still exist and keep nothing alive.
    let mut message = [0; 8192];
    loop {
        recv(&links, &mut message, RecvFlags::empty()).unwrap();
        if message[4..6] == DELETED {
            break;
        }
    }
    assert!(!is_there());
    drop((netns, process));
}
