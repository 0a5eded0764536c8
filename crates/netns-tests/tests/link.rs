// SPDX-License-Identifier: Apache-2.0
//! Tests of `netns::link` against the `ip` program, in two network namespaces.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::os::fd::AsFd as _;
use std::process::Command;

use netns::link::{IpNetwork, RtnetlinkSocket, VethPeerNetns};
use rustix::io::Errno;
use rustix::process::Pid;
use serde_json::Value;
use test_support::namespaces::{NamespaceHolder, require_private_namespaces};

fn sibling() -> NamespaceHolder {
    require_private_namespaces();
    NamespaceHolder::start(&["--net"])
}

fn ip_of(sibling: &NamespaceHolder, arguments: &str) -> Value {
    json(sibling.command("ip"), arguments)
}

fn ip(arguments: &str) -> Value {
    json(Command::new("ip"), arguments)
}

fn json(mut command: Command, arguments: &str) -> Value {
    let output = command
        .arg("-j")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn addresses(links: &Value) -> Vec<String> {
    links[0]["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["scope"] == "global" && a["tentative"] != true)
        .map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]))
        .collect()
}

fn routes(routes: &Value) -> Vec<String> {
    routes
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            let word = |key| r[key].as_str().unwrap_or("-");
            format!(
                "{} via {} dev {}",
                word("dst"),
                word("gateway"),
                word("dev")
            )
        })
        .collect()
}

#[test]
fn bring_up_works_for_the_loopback() {
    require_private_namespaces();
    assert_eq!(ip("link show lo")[0]["operstate"], "DOWN");
    let mut links = RtnetlinkSocket::open().unwrap();
    let lo = links.find_link(&"lo".parse().unwrap()).unwrap();
    assert_eq!(lo.to_string(), "1");
    links.bring_up(lo).unwrap();
    let flags = ip("link show lo")[0]["flags"].to_string();
    assert!(flags.contains("\"UP\""), "{flags}");
}

#[test]
fn links_are_listed() {
    require_private_namespaces();
    let mut links = RtnetlinkSocket::open().unwrap();
    assert_eq!(links.list_links().unwrap(), ["lo"]);
    let (name, peer) = ("one".parse().unwrap(), "other".parse().unwrap());
    let here = std::fs::File::open("/proc/self/ns/net").unwrap();
    let there = VethPeerNetns::File(here.as_fd());
    links.add_veth(&name, &peer, there).unwrap();
    let mut listed = links.list_links().unwrap();
    listed.sort();
    assert_eq!(listed, ["lo", "one", "other"]);
}

#[test]
fn a_veth_pair_joins_two_namespaces_in_both_families() {
    let holder = sibling();
    let there = holder.netns_file();
    let mut links = RtnetlinkSocket::open().unwrap();
    let (left, right) = ("left".parse().unwrap(), "right".parse().unwrap());
    let link = links
        .add_veth(&left, &right, VethPeerNetns::File(there.as_fd()))
        .unwrap();
    assert_eq!(
        ip("link show left")[0]["ifindex"].to_string(),
        link.to_string()
    );
    assert_eq!(ip_of(&holder, "link show right")[0]["ifname"], "right");

    links.bring_up(link).unwrap();
    links
        .add_address(link, "203.0.113.1/24".parse().unwrap())
        .unwrap();
    links
        .add_address(link, "2001:db8::1/64".parse().unwrap())
        .unwrap();
    assert_eq!(
        addresses(&ip("addr show left")),
        ["203.0.113.1/24", "2001:db8::1/64"]
    );

    let gateway = Some("203.0.113.9".parse().unwrap());
    links
        .add_route(IpNetwork::DEFAULT_V4, link, gateway)
        .unwrap();
    links
        .add_route(
            IpNetwork::DEFAULT_V6,
            link,
            Some("2001:db8::9".parse().unwrap()),
        )
        .unwrap();
    links
        .add_route("198.51.100.0/24".parse().unwrap(), link, None)
        .unwrap();
    links
        .add_route("192.0.2.7/32".parse().unwrap(), link, gateway)
        .unwrap();
    let mut v4 = routes(&ip("-4 route show dev left proto static"));
    v4.sort();
    assert_eq!(
        v4,
        [
            "192.0.2.7 via 203.0.113.9 dev -",
            "198.51.100.0/24 via - dev -",
            "default via 203.0.113.9 dev -",
        ]
    );
    assert_eq!(
        routes(&ip("-6 route show dev left proto static")),
        ["default via 2001:db8::9 dev -"]
    );
}

#[test]
fn the_peer_namespace_can_be_given_by_a_process() {
    let holder = sibling();
    let pid = Pid::from_raw(holder.pid().cast_signed()).unwrap();
    let mut links = RtnetlinkSocket::open().unwrap();
    let names = ("left".parse().unwrap(), "right".parse().unwrap());
    links
        .add_veth(&names.0, &names.1, VethPeerNetns::Process(pid))
        .unwrap();
    assert_eq!(ip_of(&holder, "link show right")[0]["ifname"], "right");
    assert_eq!(
        links.find_link(&names.1).unwrap_err().errno,
        Errno::NODEV,
        "the peer is in the other namespace"
    );
}

#[test]
fn a_refused_request_names_the_step_and_the_errno() {
    let holder = sibling();
    let there = holder.netns_file();
    let mut links = RtnetlinkSocket::open().unwrap();
    let names = ("left".parse().unwrap(), "right".parse().unwrap());
    let pair = |links: &mut RtnetlinkSocket| {
        links.add_veth(&names.0, &names.1, VethPeerNetns::File(there.as_fd()))
    };
    let link = pair(&mut links).unwrap();
    let again = pair(&mut links).unwrap_err();
    assert_eq!(
        (again.step.as_str(), again.errno),
        ("creating the veth pair left and right", Errno::EXIST)
    );
    let route = links
        .add_route(
            IpNetwork::DEFAULT_V4,
            link,
            Some("203.0.113.9".parse().unwrap()),
        )
        .unwrap_err();
    assert_eq!(
        route.step,
        format!("routing 0.0.0.0/0 via 203.0.113.9 through link {link}")
    );
    assert_eq!(route.errno, Errno::NETUNREACH);
    // The reply to a refused request was read completely: the socket still works.
    links.bring_up(link).unwrap();
}
