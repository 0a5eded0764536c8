// SPDX-License-Identifier: Apache-2.0
//! What passes through an allowed connection, and how it ends.

use super::lab::{Lab, hello};
use super::user::{User, as_everybody};

#[test]
fn a_half_close_a_reset_and_a_large_transfer_pass_unchanged() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "plain.test", "--allow", "v6.test"]);
        for host in ["plain.test", "v6.test"] {
            let mut does = |deed: &str| sandbox.does(&deed.replace("HOST", host));
            assert_eq!(does("half_close HOST 3000000"), "received 3000000");
            assert_eq!(does("half_close HOST 0"), "received 0");
            assert_eq!(does("reset HOST"), "reset");
            assert_eq!(does("bulk HOST 40000000"), "40000000 same");
            assert_eq!(does("goodbye HOST"), "goodbye");
            assert_eq!(does("abort HOST"), "aborted");
            // A port without a server.
            assert_eq!(does("greet HOST 9"), "failed: ECONNREFUSED");
        }
        let after = lab.events_of("after-goodbye");
        assert_eq!(after, [["and thanks"], ["and thanks"]]);
        assert_eq!(
            lab.events_of("reset").len(),
            2,
            "a reset arrives as a reset"
        );
    });
}

#[test]
fn a_host_that_does_not_answer_is_a_timeout_and_a_missing_route_its_own_error() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "gone.test", "--allow", "198.51.100.66"]);
        for dest in ["gone.test", "198.51.100.66"] {
            assert_eq!(
                sandbox.does(&format!("greet {dest} 7004 1")),
                "failed: TimeoutError"
            );
        }
        let route = ["ip", "route", "add", "prohibit", "198.51.100.66"];
        assert!(lab.machine.root(user, &route).status().unwrap().success());
        for dest in ["gone.test", "198.51.100.66"] {
            let said = sandbox.does(&format!("greet {dest} 7004 9"));
            assert_eq!(said, "failed: EHOSTUNREACH", "{dest}");
        }
    });
}

#[test]
fn the_first_datagram_arrives() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "v6.test"]);
        let mut operator = lab.operator();
        assert_eq!(sandbox.does("datagram v6.test first"), "first");
        sandbox.begins("datagram plain.test once");
        operator.answer("plain.test", 'a');
        assert_eq!(sandbox.ends(), "once");
        sandbox.begins("datagram 198.51.100.41 literal");
        operator.answer("198.51.100.41", 'd');
        assert_eq!(sandbox.ends(), "failed: ECONNREFUSED");
        sandbox.begins("datagram 2001:db8:0:41::41 six");
        operator.answer("2001:db8:0:41::41", 'a');
        assert_eq!(sandbox.ends(), "six");
        sandbox.begins("datagram 2001:db8:9::9 none");
        operator.answer("2001:db8:9::9", 'd');
        assert_eq!(sandbox.ends(), "failed: ECONNREFUSED");
        // Each exactly once.
        let received = lab.events_of("udp");
        let texts: Vec<_> = received.iter().map(|fields| fields[2].clone()).collect();
        assert_eq!(texts, ["first", "once", "six"]);
        // A port without a server.
        assert_eq!(
            sandbox.does("datagram v6.test none 5 9"),
            "failed: ECONNREFUSED"
        );
    });
}

#[test]
fn a_server_of_the_workload_is_its_own_on_a_port_that_is_also_dialed() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "plain.test"]);
        let outside = hello("198.51.100.41");
        assert_eq!(
            sandbox.does("own_server plain.test"),
            format!("hello from inside\n{outside}\nhello from inside\n{outside}")
        );
    });
}

#[test]
fn two_thousand_connections_at_once_all_succeed() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--open-files", "4000", "--allow", "plain.test"]);
        let (_, limit) = sandbox.shell.does("ulimit -n $(ulimit -Hn); ulimit -n");
        assert!(limit.parse::<u32>().unwrap() > 2_000, "{limit}");
        assert_eq!(sandbox.does("flood plain.test 2000"), "2000 greeted");
        // Nobody else waits: the next one passes at once.
        assert_eq!(
            sandbox.does("greet plain.test 7004 1"),
            hello("198.51.100.41")
        );
    });
}

#[test]
fn more_flows_of_datagrams_than_are_kept_all_get_their_replies() {
    let user = User::new(None);
    let lab = Lab::new(&user);
    let mut sandbox = lab.sandbox(&["--allow", "plain.test"]);
    // The engine keeps 4,096, and ends the one that was idle for the longest time.
    let said = sandbox.does("datagram_flood plain.test 4200");
    assert_eq!(said, "4200 replies");
    assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
    let said = sandbox.finish();
    assert!(!said.contains("nothing new can be answered"), "{said}");
}

#[test]
fn datagrams_of_any_size_pass_whole() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "plain.test"]);
        assert_eq!(
            sandbox.does("datagram_sizes plain.test"),
            "0 returned\n1 returned\n1472 returned\n1473 returned\n9000 returned\n\
             60000 returned\nburst [(0, 1000), (1, 1000), (2, 1000), (3, 1000)]"
        );
    });
}

#[test]
fn unusual_ways_to_connect_work() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "plain.test"]);
        let hello = hello("198.51.100.41");
        let mut said = vec![
            format!("multipath {hello}"),
            "fast open received 5".to_owned(),
            format!("small segments {hello}"),
        ];
        said.extend([(); 3].map(|()| format!("same port {hello}")));
        assert_eq!(sandbox.does("odd_clients plain.test"), said.join("\n"));
    });
}

#[test]
fn a_ping_is_a_question_and_passes_where_the_machine_allows_pings() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "private.test"]);
        let mut operator = lab.operator();
        sandbox.begins("ping plain.test 5");
        let question = operator.answer("plain.test", 'a');
        assert_eq!(question["protocol"], "icmp");
        // The kernel gives ordinary programs of the machine no ping yet: a clear word.
        let said = sandbox.ends();
        assert!(
            ["failed: EHOSTUNREACH", "failed: EACCES"].contains(&&*said),
            "{said}"
        );
        let all = "echo 0 4294967294 > /proc/sys/net/ipv4/ping_group_range || \
            echo 0 0 > /proc/sys/net/ipv4/ping_group_range";
        let allowed = lab.machine.root(user, &["sh", "-c", all]).output().unwrap();
        assert!(allowed.status.success());
        assert_eq!(sandbox.does("ping plain.test"), "reply payload");
        // The name is allowed; its address is a question of its own.
        sandbox.begins("ping private.test 5");
        let question = operator.answer("10.9.9.9", 'd');
        assert_eq!(question["looked_up_as"], "private.test", "{question}");
        sandbox.ends();
        // Another name is another question, and a deny an error.
        sandbox.begins("ping other.test 5");
        operator.answer("other.test", 'd');
        let said = sandbox.ends();
        assert!(said.starts_with("failed: "), "{said}");
        let pings = ["1 198.51.100.41 8"];
        assert_eq!(lab.packets_sent(), pings);
    });
}
