// SPDX-License-Identifier: Apache-2.0
//! Networks and resolvers that change, fail or are missing.

use std::process::Stdio;

use super::lab::{Lab, OTHER_RESOLVER, RESOLVER, hello};
use super::user::{as_everybody, told};

#[test]
fn a_resolver_that_changes_counts_at_once() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "plain.test"]);
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        // A VPN comes: another resolver, and another address of the same name.
        lab.write_resolv_conf(&format!("nameserver {OTHER_RESOLVER}\n"));
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.131"));
        lab.write_resolv_conf(&format!("nameserver {RESOLVER}\n"));
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
    });
}

#[test]
fn a_dead_first_resolver_costs_time_and_no_more() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        // The route to the first one is missing, so that it is found out at once.
        lab.write_resolv_conf(&format!(
            "nameserver 203.0.113.1\nnameserver {RESOLVER}\noptions timeout:1\n"
        ));
        let mut sandbox = lab.sandbox(&["--allow", "plain.test"]);
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
    });
}

#[test]
fn without_a_resolver_addresses_still_pass_and_names_fail_with_an_error() {
    as_everybody(|user| {
        let lab = Lab::asking(user, "127.0.0.1");
        let options = [
            "--allow",
            "plain.test",
            "--allow",
            "198.51.100.41",
            "--hold",
            "0",
        ];
        let mut sandbox = lab.sandbox(&options);
        let check = |sandbox: &mut super::lab::Sandbox| {
            assert_eq!(sandbox.does("greet plain.test"), "failed: EAI_AGAIN");
            assert_eq!(sandbox.does("greet 198.51.100.41"), hello("198.51.100.41"));
            // A name that nothing allows needs no resolver to be refused.
            assert_eq!(sandbox.does("greet other.test"), "failed: ECONNREFUSED");
        };
        check(&mut sandbox);
        // No resolver at all.
        lab.write_resolv_conf("");
        check(&mut sandbox);
        // One that comes back counts at once.
        lab.write_resolv_conf(&format!("nameserver {RESOLVER}\n"));
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(lab.names_asked(), ["plain.test"]);
    });
}

#[test]
fn a_network_that_goes_and_comes_back_is_an_error_meanwhile() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let mut sandbox = lab.sandbox(&["--allow", "198.51.100.41", "--allow", "plain.test"]);
        let ip = |args: &str| {
            let args: Vec<_> = args.split(' ').collect();
            let changed = lab.machine.root(user, &args).output().unwrap();
            assert!(changed.status.success(), "{}", told(&changed));
        };
        ip("ip link set eth0 down");
        let said = sandbox.does("greet 198.51.100.41 7004 5");
        assert_eq!(said, "failed: ENETUNREACH");
        ip("ip link set eth0 up");
        ip("ip route add default via 192.0.2.1");
        assert_eq!(sandbox.does("greet 198.51.100.41"), hello("198.51.100.41"));
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
    });
}

#[test]
fn a_machine_without_a_network_runs_commands() {
    as_everybody(|user| {
        user.add_file("work/w.py", include_str!("workload.py"));
        // Neither a link nor an address, not even loopback; then loopback alone.
        for set_up in ["true", "ip link set lo up"] {
            let script = format!(
                "{set_up} && {} run --ui none --allow 198.51.100.41 -- \
                 sh -c 'python3 w.py greet 198.51.100.41 7004 5; exit 7'",
                user.program().display()
            );
            let mut command = user.command("unshare");
            command.args(["--map-root-user", "--net", "sh", "-c", &script]);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(7), "{set_up}: {}", told(&output));
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(said.trim(), "failed: ENETUNREACH", "{}", told(&output));
        }
    });
}

#[test]
fn a_machine_without_ipv4_or_without_ipv6_runs_commands() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        for (family, host) in [("-4", "2001:db8:0:41::41"), ("-6", "198.51.100.41")] {
            let flush = ["ip", family, "address", "flush", "dev", "eth0"];
            assert!(lab.machine.root(user, &flush).status().unwrap().success());
            if family == "-6" {
                let add = ["ip", "address", "add", "192.0.2.2/29", "dev", "eth0"];
                assert!(lab.machine.root(user, &add).status().unwrap().success());
                let add = ["ip", "route", "add", "default", "via", "192.0.2.1"];
                assert!(lab.machine.root(user, &add).status().unwrap().success());
            }
            let options = ["--allow", host, "--quiet"];
            let output = lab
                .run_command(&options, &["python3", "w.py", "greet", host])
                .stdout(Stdio::piped())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", told(&output));
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), hello(host));
        }
    });
}

#[test]
fn at_the_limit_of_open_files_connections_are_refused_and_later_ones_pass() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        let program = user.program();
        let mut args = vec!["prlimit", "--nofile=200:200", program.to_str().unwrap()];
        // An address: a lookup needs descriptors, too, and fails for want of them.
        let dest = "198.51.100.41";
        args.extend(["run", "--ui", "none", "--allow", dest, "--", "sh"]);
        let mut sandbox = lab.sandbox_of(lab.machine.command(user, &args));
        let said = sandbox.does(&format!("keep_many {dest} 150"));
        let words: Vec<_> = said.split(' ').collect();
        let [served, "served,", refused, "refused"] = words[..] else {
            panic!("{said}")
        };
        let [served, refused] = [served, refused].map(|count| count.parse::<u32>().unwrap());
        assert!(
            served > 50 && refused > 10 && served + refused == 150,
            "{said}"
        );
        assert_eq!(
            sandbox.does(&format!("greet {dest}")),
            hello("198.51.100.41")
        );
        let said = sandbox.finish();
        assert_eq!(said.matches("too many open files").count(), 1, "{said}");
    });
}

#[test]
fn a_proxy_of_the_machines_network_is_used_for_public_destinations_alone() {
    as_everybody(|user| {
        let lab = Lab::new(user);
        for proxy in ["http://198.51.100.40:3128", "socks5://198.51.100.40:3128"] {
            let allowed = ["*.test", "198.51.100.41", "10.9.9.9"];
            let allowed = allowed.map(|pattern| ["--allow", pattern]).concat();
            let options = [&allowed[..], &["--hold", "0", "--proxy", proxy]].concat();
            let mut sandbox = lab.sandbox(&options);
            for (dest, said) in [
                ("plain.test", &*hello("198.51.100.41")),
                ("198.51.100.41", &*hello("198.51.100.41")),
                // The proxy refuses this one.
                ("other.test", "failed: EHOSTUNREACH"),
                // The proxy learns no private destination.
                ("10.9.9.9", &*hello("10.9.9.9")),
                ("198.51.100.40", "failed: ECONNREFUSED"),
            ] {
                assert_eq!(
                    sandbox.does(&format!("greet {dest}")),
                    said,
                    "{proxy} {dest}"
                );
            }
        }
        let seen = lab.events_of("proxy");
        let hosts: Vec<_> = seen.iter().map(|fields| fields[0].clone()).collect();
        let one = ["plain.test", "198.51.100.41", "other.test"];
        assert_eq!(hosts, [one, one].concat());
        // The operator's variables name a proxy, too; the command does not see them.
        let mut args = vec!["env", "https_proxy=http://198.51.100.40:3128"];
        let program = user.program();
        args.extend([
            "ALL_PROXY=http://198.51.100.40:3128",
            program.to_str().unwrap(),
        ]);
        args.extend(["run", "--ui", "none", "--allow", "plain.test", "--", "sh"]);
        let mut sandbox = lab.sandbox_of(lab.machine.command(user, &args));
        assert_eq!(
            sandbox.shell.does("env | grep -i proxy"),
            (1, String::new())
        );
        assert_eq!(sandbox.does("greet plain.test"), hello("198.51.100.41"));
        assert_eq!(lab.events_of("proxy").len(), 7);
    });
}
