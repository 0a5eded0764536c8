// SPDX-License-Identifier: Apache-2.0
//! Lookups of a sandbox: none leaves the machine for a name that no rule allows.

use super::lab::{Lab, RESOLVER, RESOLVER_V6, hello};
use super::user::as_everybody;

/// Returns `true` for an address that stands in for a name.
fn is_stand_in(address: &str) -> bool {
    address.starts_with("198.18.")
}

#[test]
fn no_lookup_of_an_unasked_name_leaves_the_machine() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        // Nobody answers, and every public address is open.
        let options = ["--hold", "0", "--allow", "0.0.0.0/0", "--allow", "::/0"];
        let mut sandbox = lab.sandbox(&[&options[..], &["--allow", "plain.test"]].concat());
        let data = "0123456789".repeat(6);
        // By the C library, and by programs with a resolver of their own; 8.8.8.8 is any address.
        let name = format!("{data}.leak.test");
        assert!(is_stand_in(&sandbox.does(&format!("resolve {name}"))));
        let servers = [
            "198.19.0.1",
            RESOLVER,
            "8.8.8.8",
            "fdc1:ea2c:19::1",
            RESOLVER_V6,
        ];
        let said = sandbox.does(&format!(
            "query {} {name} A,AAAA,HTTPS,TXT,MX,SRV udp,tcp",
            servers.join(",")
        ));
        assert_eq!(said.lines().count(), servers.len() * 2 * 6, "{said}");
        for line in said.lines() {
            let (kind, said) = line.split_once(' ').unwrap();
            match kind {
                "A" => assert!(said.starts_with("code 0, 1 answers 198.18."), "{line}"),
                "AAAA" | "HTTPS" => assert_eq!(said, "code 0, 0 answers", "{line}"),
                _ => assert_eq!(said, "code 5, 0 answers", "{line}"),
            }
        }
        // A connection to the name is refused without a lookup, too.
        assert_eq!(
            sandbox.does(&format!("greet {name}")),
            "failed: ECONNREFUSED"
        );
        assert_eq!(lab.names_asked(), Vec::<String>::new());

        // Of an allowed name other records arrive, and the program asks the outside resolver.
        assert_eq!(
            sandbox.does("query 8.8.8.8 plain.test TXT"),
            "TXT code 0, 1 answers"
        );
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(lab.names_asked(), ["plain.test"]);
        assert_eq!(lab.packets_sent(), ["6 198.51.100.41 7004"]);
        let said = sandbox.finish();
        let refused = format!("refused a lookup of TXT records of {name}");
        assert_eq!(said.matches(&refused).count(), 1, "{said}");
    });
}

#[test]
fn names_that_are_addresses_in_other_words_do_not_exist() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let options = ["--hold", "0", "--allow", "0.0.0.0/0"];
        let mut sandbox = lab.sandbox(&options);
        let long = "a".repeat(64);
        for name in [
            "2852039166",
            "0x7f000001",
            "127.1",
            "a.0x10",
            "1.2.3",
            "a.1",
        ] {
            let said = sandbox.does(&format!("query 8.8.8.8 {name} A"));
            assert_eq!(said, "A code 3, 0 answers", "{name}");
        }
        for name in [
            "a..b".to_owned(),
            format!("{long}.test"),
            "x y.test".to_owned(),
        ] {
            let said = sandbox.does(&format!("resolve '{name}'"));
            assert!(
                said.contains("failed") || said.contains("Error"),
                "{name}: {said}"
            );
        }
        for name in ["localhost", "localhost.", "a.localhost"] {
            assert!(
                ["127.0.0.1", "::1", "127.0.0.1 ::1"]
                    .contains(&&*sandbox.does(&format!("resolve {name}"))),
                "{name}"
            );
        }
        assert_eq!(lab.names_asked(), Vec::<String>::new());
        assert_eq!(lab.packets_sent(), Vec::<String>::new());
    });
}

#[test]
fn a_name_keeps_its_stand_in_and_the_address_leads_back_to_the_name() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--hold", "0"]);
        let first = sandbox.does("resolve one.test");
        let second = sandbox.does("resolve two.test");
        assert!(is_stand_in(&first) && is_stand_in(&second) && first != second);
        // Case and a trailing dot make no other name.
        for same in ["ONE.test", "one.test."] {
            assert_eq!(sandbox.does(&format!("resolve {same}")), first);
        }
        let reverse = first.split('.').rev().collect::<Vec<_>>().join(".");
        assert_eq!(
            sandbox.does(&format!("query 8.8.8.8 {reverse}.in-addr.arpa PTR")),
            "PTR code 0, 1 answers"
        );
        let (_, found) = sandbox.shell.does(&format!("getent hosts {first}"));
        assert!(found.ends_with("one.test"), "{found}");
        sandbox.finish();
        // A program that kept the address over two runs still means the name.
        let mut next = lab.sandbox(&["--allow", "one.test"]);
        assert_eq!(next.does("resolve one.test"), first);
        assert_eq!(next.does("greet one.test"), hello("198.51.100.40"));
    });
}

#[test]
fn lookups_of_allowed_names_tell_the_truth() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--hold", "0", "--allow", "*.test", "--allow", "test"]);
        assert_eq!(sandbox.does("greet nowhere.test"), "failed: EAI_NONAME");
        assert_eq!(
            sandbox.does("query 8.8.8.8 nowhere.test A"),
            "A code 3, 0 answers"
        );
        assert!(is_stand_in(&sandbox.does("resolve v6.test")));
        assert_eq!(sandbox.does("greet v6.test"), hello("2001:db8:0:41::41"));
        assert_eq!(lab.names_asked(), ["nowhere.test", "v6.test"]);
    });
}

#[test]
fn names_are_looked_up_as_on_the_machine() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        // The name server of IPv6 alone, a search domain, and a name of the hosts file.
        lab.write_resolv_conf(&format!("nameserver {RESOLVER_V6}\n"));
        lab.write_hosts(
            "127.0.0.1 localhost\n127.0.1.1 thismachine\n\
             198.51.100.132 inthehosts.test inthehosts\n",
        );
        let names = ["plain.test", "inthehosts.test", "inthehosts"];
        let allowed = names.map(|name| ["--allow", name]).concat();
        let mut sandbox = lab.sandbox(&allowed);
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(
            sandbox.does("greet inthehosts.test"),
            hello("198.51.100.132")
        );
        assert_eq!(sandbox.does("greet inthehosts"), hello("198.51.100.132"));
        // Loopback stays the sandbox's own, whatever its name.
        assert_eq!(sandbox.does("resolve thismachine"), "127.0.1.1");
        assert_eq!(lab.names_asked(), ["plain.test"]);

        // The domains to search are those at the start.
        lab.write_resolv_conf(&format!("nameserver {RESOLVER}\nsearch corp.test\n"));
        let mut sandbox = lab.sandbox(&["--allow", "search.corp.test"]);
        assert_eq!(sandbox.does("greet search"), hello("198.51.100.130"));
        assert_eq!(lab.names_asked(), ["plain.test", "search.corp.test"]);
    });
}

#[test]
fn no_name_is_believed_that_the_sandboxs_name_server_did_not_give_out() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let options = [
            "--hold",
            "0",
            "--allow",
            "data.test",
            "--allow",
            "bank.test",
        ];
        let mut sandbox = lab.sandbox(&options);
        let mut operator = lab.operator();
        // A record of an allowed name holds what reads as an answer about another name.
        let said = sandbox.does("query 8.8.8.8 data.test TXT tcp");
        assert_eq!(said, "TXT code 0, 1 answers");
        assert_eq!(sandbox.does("greet 198.51.100.140"), "failed: ECONNREFUSED");
        let question = operator.asked("198.51.100.140");
        assert_eq!(question["domain"], serde_json::Value::Null);
        assert!(!question.to_string().contains("bank.test"), "{question}");
    });
}

#[test]
fn a_short_name_of_the_hosts_file_comes_before_the_search_domains() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        lab.write_resolv_conf(&format!("nameserver {RESOLVER}\nsearch corp.test\n"));
        lab.write_hosts("127.0.0.1 localhost\n198.51.100.132 inthehosts\n");
        let mut sandbox = lab.sandbox(&["--hold", "0", "--allow", "inthehosts"]);
        assert_eq!(sandbox.does("greet inthehosts"), hello("198.51.100.132"));
        assert_eq!(lab.names_asked(), Vec::<String>::new());
    });
}
