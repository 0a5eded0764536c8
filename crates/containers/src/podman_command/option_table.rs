// SPDX-License-Identifier: Apache-2.0
//! The options of `podman run` and `podman create`, and which of them take a value.
//!
//! These are the options of podman 4.3 to 5.8, with hidden ones and those of `podman` itself that
//! may follow the command. An option of one command alone is in the same table: podman refuses it
//! for the other.

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodmanOptionKind {
    /// It stands alone, or has a value after `=`.
    Flag,
    /// Its value follows `=`, or is the next argument.
    Value,
}

/// Options that stand alone.
const FLAGS: &[&str] = &[
    "detach",
    "disable-content-trust",
    "env-host",
    "help",
    "http-proxy",
    "init",
    "interactive",
    "no-healthcheck",
    "no-hostname",
    "no-hosts",
    "oom-kill-disable",
    "passwd",
    "privileged",
    "publish-all",
    "quiet",
    "read-only",
    "read-only-tmpfs",
    "replace",
    "rm",
    "rmi",
    "rootfs",
    "sig-proxy",
    "syslog",
    "tls-verify",
    "trace",
    "transient-store",
    "tty",
    "unsetenv-all",
];

/// Options with a value.
const VALUES: &[&str] = &[
    "add-host",
    "annotation",
    "arch",
    "attach",
    "authfile",
    "blkio-weight",
    "blkio-weight-device",
    "cap-add",
    "cap-drop",
    "cdi-spec-dir",
    "cert-dir",
    "cgroup-conf",
    "cgroup-manager",
    "cgroup-parent",
    "cgroupns",
    "cgroups",
    "chrootdirs",
    "cidfile",
    "conmon",
    "conmon-pidfile",
    "cpu-period",
    "cpu-profile",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-shares",
    "cpus",
    "cpuset-cpus",
    "cpuset-mems",
    "creds",
    "db-backend",
    "decryption-key",
    "default-mounts-file",
    "detach-keys",
    "device",
    "device-cgroup-rule",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "dns",
    "dns-option",
    "dns-search",
    "entrypoint",
    "env",
    "env-file",
    "env-merge",
    "events-backend",
    "expose",
    "gidmap",
    "gpus",
    "group-add",
    "group-entry",
    "health-cmd",
    "health-interval",
    "health-log-destination",
    "health-max-log-count",
    "health-max-log-size",
    "health-on-failure",
    "health-retries",
    "health-start-period",
    "health-startup-cmd",
    "health-startup-interval",
    "health-startup-retries",
    "health-startup-success",
    "health-startup-timeout",
    "health-timeout",
    "hooks-dir",
    "hostname",
    "hosts-file",
    "hostuser",
    "image-volume",
    "imagestore",
    "init-ctr",
    "init-path",
    "ip",
    "ip6",
    "ipc",
    "kernel-memory",
    "label",
    "label-file",
    "log-driver",
    "log-level",
    "log-opt",
    "mac-address",
    "max-workers",
    "memory",
    "memory-profile",
    "memory-reservation",
    "memory-swap",
    "memory-swappiness",
    "mount",
    "name",
    "namespace",
    "network",
    "network-alias",
    "network-backend",
    "network-cmd-path",
    "network-config-dir",
    "oom-score-adj",
    "os",
    "passwd-entry",
    "personality",
    "pid",
    "pidfile",
    "pids-limit",
    "platform",
    "pod",
    "pod-id-file",
    "preserve-fd",
    "preserve-fds",
    "publish",
    "pull",
    "pull-option",
    "rdt-class",
    "registries-conf",
    "requires",
    "restart",
    "retry",
    "retry-delay",
    "root",
    "runroot",
    "runtime",
    "runtime-flag",
    "sdnotify",
    "seccomp-policy",
    "secret",
    "security-opt",
    "shm-size",
    "shm-size-systemd",
    "signature-policy",
    "stop-signal",
    "stop-timeout",
    "storage-driver",
    "storage-opt",
    "subgidname",
    "subuidname",
    "sysctl",
    "systemd",
    "timeout",
    "tmpdir",
    "tmpfs",
    "tz",
    "uidmap",
    "ulimit",
    "umask",
    "unsetenv",
    "user",
    "userns",
    "uts",
    "variant",
    "volume",
    "volumepath",
    "volumes-from",
    "workdir",
];

/// Other names of options.
const ALIASES: &[(&str, &str)] = &[
    ("dns-opt", "dns-option"),
    ("healthcheck-command", "health-cmd"),
    ("healthcheck-interval", "health-interval"),
    ("healthcheck-retries", "health-retries"),
    ("healthcheck-start-period", "health-start-period"),
    ("healthcheck-timeout", "health-timeout"),
    ("net", "network"),
    ("ns", "namespace"),
    ("override-arch", "arch"),
    ("override-os", "os"),
    ("override-variant", "variant"),
];

/// Options of one letter.
const LETTERS: &[(char, &str)] = &[
    ('P', "publish-all"),
    ('a', "attach"),
    ('c', "cpu-shares"),
    ('d', "detach"),
    ('e', "env"),
    ('h', "hostname"),
    ('i', "interactive"),
    ('l', "label"),
    ('m', "memory"),
    ('p', "publish"),
    ('q', "quiet"),
    ('t', "tty"),
    ('u', "user"),
    ('v', "volume"),
    ('w', "workdir"),
];

/// Returns the option with the name `long`.
pub(super) fn find_option(long: &str) -> Option<(&'static str, PodmanOptionKind)> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == long);
    let long = alias.map_or(long, |(_, name)| name);
    let find = |names: &'static [&'static str], kind| {
        let found = names.binary_search(&long).ok();
        Some((*names.get(found?)?, kind))
    };
    find(FLAGS, PodmanOptionKind::Flag).or_else(|| find(VALUES, PodmanOptionKind::Value))
}

/// Returns the option with the letter `letter`.
pub(super) fn find_letter(letter: char) -> Option<(&'static str, PodmanOptionKind)> {
    let (_, long) = LETTERS.iter().find(|(known, _)| *known == letter)?;
    find_option(long)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_tables_are_sorted_and_complete() {
        for names in [FLAGS, VALUES] {
            assert!(names.is_sorted_by(|a, b| a < b));
        }
        for (alias, name) in ALIASES {
            assert_eq!(find_option(alias).unwrap().0, *name);
        }
        for (letter, name) in LETTERS {
            assert_eq!(find_letter(*letter).unwrap().0, *name);
        }
        assert_eq!(find_option("no-such-option"), None);
        assert_eq!(find_letter('Z'), None);
    }

    /// The help of the installed podman is the source for its version: each option is known, and
    /// takes a value here if it does there.
    #[test]
    fn the_table_agrees_with_the_help_of_podman() {
        for arguments in [&["run", "--help"][..], &["create", "--help"], &["--help"]] {
            let help = Command::new("podman").args(arguments).output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            let mut count = 0;
            for line in help.lines() {
                let Some((before, rest)) = line.split_once("--") else {
                    continue;
                };
                let letter = before.trim().trim_end_matches(',');
                if !(letter.is_empty() || (letter.len() == 2 && letter.starts_with('-'))) {
                    continue;
                }
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let is_flag = rest.starts_with("  ") || rest.trim().is_empty();
                let found = find_option(name);
                // Options of podman itself that stand before the command alone.
                let is_local = arguments == ["--help"]
                    && [
                        "connection",
                        "identity",
                        "noout",
                        "remote",
                        "ssh",
                        "url",
                        "version",
                    ]
                    .contains(&name);
                if is_local {
                    continue;
                }
                let (_, kind) = found.unwrap_or_else(|| panic!("--{name} is unknown"));
                assert_eq!(kind == PodmanOptionKind::Flag, is_flag, "--{name}");
                if arguments != ["--help"]
                    && let Some(letter) = letter.strip_prefix('-')
                {
                    let (long, _) = find_letter(letter.chars().next().unwrap()).unwrap();
                    assert_eq!(long, name);
                }
                count += 1;
            }
            assert!(count > 15, "{help}");
        }
    }
}
