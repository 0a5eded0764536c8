// SPDX-License-Identifier: Apache-2.0
//! The local network, the machine itself, and what is never opened.

use serde_json::Value;

use super::lab::{Lab, hello};
use super::user::as_everybody;

/// Options that open the whole internet, and name no private place.
const WIDE: [&str; 10] = [
    "--allow",
    "0.0.0.0/0",
    "--allow",
    "::/0",
    "--allow",
    "*.test",
    "--allow",
    "*.internal",
    "--hold",
    "0",
];

#[test]
fn the_local_network_and_the_machine_are_asked_about_whatever_is_open() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let servers = ["127.0.0.1", "192.0.2.2"].map(|at| lab.serve_on_machine(at, 4711));
        let mut sandbox = lab.sandbox(&WIDE);
        let mut operator = lab.operator();
        for (dest, port, zone, said) in [
            ("10.9.9.9", 7004, "local-network", &*hello("10.9.9.9")),
            ("host.internal", 4711, "this-host", "reached"),
            ("192.0.2.2", 4711, "this-host", "reached"),
        ] {
            let deed = format!("greet {dest} {port}");
            assert_eq!(sandbox.does(&deed), "failed: ECONNREFUSED", "{dest}");
            let question = operator.answer(dest, 'a');
            assert_eq!(question["zone"], zone, "{question}");
            assert_eq!(sandbox.does(&deed), said, "{dest}");
            // For this port alone.
            assert_eq!(
                sandbox.does(&format!("greet {dest} 80")),
                "failed: ECONNREFUSED"
            );
            assert_eq!(operator.asked(dest)["port"], 80);
        }
        // Loopback is the sandbox's own, and so is no question.
        for own in ["127.0.0.1", "localhost", "198.19.0.1", "198.19.0.2", "::1"] {
            let said = sandbox.does(&format!("greet {own} 4711"));
            assert!(said.starts_with("failed: "), "{own}: {said}");
        }
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
        drop(servers);
    });
}

#[test]
fn an_option_that_names_a_private_place_opens_it() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let server = lab.serve_on_machine("127.0.0.1", 4711);
        let server_v6 = lab.serve_on_machine("::1", 4712);
        let options = ["10.9.9.0/24:7004", "host.internal:4711-4712"];
        let options = options.map(|pattern| ["--allow", pattern]).concat();
        let mut sandbox = lab.sandbox(&[&options[..], &["--hold", "0"]].concat());
        assert_eq!(sandbox.does("greet 10.9.9.9"), hello("10.9.9.9"));
        assert_eq!(sandbox.does("greet 10.9.9.9 80"), "failed: ECONNREFUSED");
        assert_eq!(sandbox.does("greet host.internal 4711"), "reached");
        assert_eq!(sandbox.does("greet host.internal 4712"), "reached");
        assert_eq!(
            sandbox.does("greet host.internal 80"),
            "failed: ECONNREFUSED"
        );
        // A port without a server: the true error.
        drop((server, server_v6));
        assert_eq!(
            sandbox.does("greet host.internal 4711"),
            "failed: ECONNREFUSED"
        );
        assert_eq!(lab.names_asked(), Vec::<String>::new());
    });
}

#[test]
fn an_allowed_name_that_leads_into_private_places_is_a_second_question() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let server = lab.serve_on_machine("127.0.0.1", 7004);
        let mut sandbox = lab.sandbox(&WIDE[..8]);
        let mut operator = lab.operator();
        for (name, address, zone) in [
            ("private.test", "10.9.9.9", "local-network"),
            ("loopback.test", "127.0.0.1", "this-host"),
        ] {
            sandbox.begins(&format!("greet {name}"));
            let question = operator.answer(address, 'd');
            assert_eq!(question["zone"], zone, "{question}");
            assert_eq!(question["looked_up_as"], name, "{question}");
            assert_eq!(sandbox.ends(), "failed: ECONNREFUSED", "{name}");
        }
        sandbox.finish();
        assert!(!lab.packets_sent().join(" ").contains("10.9.9.9"));

        let mut sandbox = lab.sandbox(&WIDE[..8]);
        for (name, address, said) in [
            ("private.test", "10.9.9.9", &*hello("10.9.9.9")),
            ("loopback.test", "127.0.0.1", "reached"),
        ] {
            sandbox.begins(&format!("greet {name}"));
            let question = operator.asked(address);
            operator.waiting(address, 1);
            operator.decide(&question, 'a');
            assert_eq!(sandbox.ends(), said);
            assert_eq!(sandbox.does(&format!("greet {name}")), said);
        }
        // Of public and private addresses the public ones are dialed.
        assert_eq!(sandbox.does("greet mixed.test"), hello("198.51.100.41"));
        // A datagram to a private address waits for the second answer, too.
        sandbox.begins("datagram private.test hello");
        let question = operator.answer("10.9.9.9", 'a');
        assert_eq!(question["protocol"], "udp");
        assert_eq!(sandbox.ends(), "hello");
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
        drop(server);
    });
}

#[test]
fn metadata_and_link_local_addresses_are_refused_and_told_once() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&WIDE[..8]);
        let mut operator = lab.operator();
        let floor = [
            "169.254.169.254",
            "169.254.1.1",
            "fd00:ec2::254",
            "168.63.129.16",
            "240.0.0.1",
            "198.18.0.1",
            "198.19.77.1",
        ];
        let names = [
            "metadata.test",
            "mapped.test",
            "nat64.test",
            "sixtofour.test",
            "linklocal.test",
            "standin.test",
            "gateway.test",
            "zero.test",
            "broadcast.test",
            "multicast.test",
        ];
        for _ in 0..2 {
            for dest in floor.iter().chain(&names) {
                let said = sandbox.does(&format!("greet {dest} 80"));
                assert_eq!(said, "failed: ECONNREFUSED", "{dest}");
            }
            for dest in ["169.254.169.254", "metadata.test"] {
                let said = sandbox.does(&format!("datagram {dest} hello"));
                assert_eq!(said, "failed: ECONNREFUSED", "{dest}");
            }
        }
        // Nothing was asked.
        sandbox.begins("greet 10.9.9.9");
        operator.answer("10.9.9.9", 'd');
        sandbox.ends();
        assert_eq!(operator.other_questions(), Vec::<&str>::new());
        let said = sandbox.finish();
        for dest in floor.iter().chain(&names) {
            let dest = if dest.contains(':') {
                format!("[{dest}]")
            } else {
                (*dest).to_owned()
            };
            let refused = format!("refused {dest}:80: link-local, cloud metadata");
            assert_eq!(said.matches(&refused).count(), 1, "{dest}: {said}");
        }
        for dest in ["169.254.169.254", "metadata.test"] {
            let refused = format!("refused {dest}:9999/udp: link-local, cloud metadata");
            assert_eq!(said.matches(&refused).count(), 1, "{dest}: {said}");
        }
        assert_eq!(lab.packets_sent(), Vec::<String>::new());
    });
}

#[test]
fn an_option_cannot_open_what_is_never_opened() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        for wrong in [
            "169.254.169.254",
            "fe80::1",
            "[fd00:ec2::254]:80",
            "224.0.0.1",
            "169.254.0.0/16",
            "ff02::/16",
            "[64:ff9b::a9fe:0/112]:80",
        ] {
            let output = lab
                .run_command(&["--allow", wrong], &["touch", "started"])
                .output();
            let output = output.unwrap();
            assert_eq!(output.status.code(), Some(2), "{wrong}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("never opened"), "{said}");
        }
        assert!(!user.path("work/started").exists());
    });
}

#[test]
fn a_proxy_of_the_machine_is_closed_under_its_other_name() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let servers = [3128, 4711].map(|port| lab.serve_on_machine("127.0.0.1", port));
        let allowed = ["--allow", "host.internal", "--hold", "0"];
        let proxied = ["--proxy", "http://127.0.0.1:3128"];
        let mut sandbox = lab.sandbox(&[&allowed[..], &["--proxy", "none"]].concat());
        assert_eq!(sandbox.does("greet host.internal 3128"), "reached");
        let mut sandbox = lab.sandbox(&[&allowed[..], &proxied].concat());
        assert_eq!(sandbox.does("greet host.internal 4711"), "reached");
        let said = sandbox.does("greet host.internal 3128");
        assert_eq!(said, "failed: ECONNREFUSED");
        let said = sandbox.finish();
        let refused = "refused host.internal:3128: it is your proxy";
        assert_eq!(said.matches(refused).count(), 1, "{said}");
        drop(servers);
    });
}

#[test]
fn the_machines_names_and_other_addresses_of_it_are_no_way_around() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let server = lab.serve_on_machine("0.0.0.0", 4711);
        let mut sandbox = lab.sandbox(&WIDE);
        let mut operator = lab.operator();
        // The machine's address in other forms: mapped, NAT64, 6to4.
        for dest in ["::ffff:192.0.2.2", "64:ff9b::192.0.2.2", "2002:c000:202::1"] {
            let said = sandbox.does(&format!("greet {dest} 4711 5"));
            assert_eq!(said, "failed: ECONNREFUSED", "{dest}");
        }
        let zones: Vec<Value> = (0..3)
            .map(|_| operator.until(|event| event["event"] == "pending")["zone"].clone())
            .collect();
        assert_eq!(zones, ["this-host"; 3]);
        drop(server);
        assert_eq!(lab.packets_sent(), Vec::<String>::new());
    });
}
