// SPDX-License-Identifier: Apache-2.0
//! The keys of the user's file.

use super::{SettingKey, ValueKind};

/// The keys of the user's `config.toml`.
pub const USER_KEYS: &[SettingKey] = &[
    SettingKey {
        table: "run",
        name: "profiles",
        kind: ValueKind::Texts,
        default: Some("[]"),
        unset: "",
        example: Some("[\"npm\"]"),
        meaning: "Profiles whose destinations are rules from the start.",
    },
    SettingKey {
        table: "run",
        name: "allow",
        kind: ValueKind::OpenDestinations,
        default: Some("[]"),
        unset: "",
        example: Some("[\"registry.npmjs.org:443\", \"*.github.com:443/tcp\"]"),
        meaning: "Destinations that are open from the start, in addition to those of --allow: \
                  NAME, *.NAME, ADDRESS or NETWORK/BITS, with :PORT or :LOW-HIGH, and with /tcp, \
                  /udp or /icmp.",
    },
    SettingKey {
        table: "run",
        name: "deny",
        kind: ValueKind::Destinations,
        default: Some("[]"),
        unset: "",
        example: Some("[\"telemetry.example.com\"]"),
        meaning: "Destinations that are refused without a question.",
    },
    SettingKey {
        table: "run",
        name: "hold",
        kind: ValueKind::Text,
        default: Some("\"60s\""),
        unset: "",
        example: None,
        meaning: "How long a connection waits for an answer: 30s, 5m, forever, or 0 to refuse it \
                  at once. As --hold.",
    },
    SettingKey {
        table: "run",
        name: "ui",
        kind: ValueKind::Word(&["auto", "desktop", "tui", "none"]),
        default: Some("\"auto\""),
        unset: "",
        example: None,
        meaning: "Where questions are asked: auto, desktop, tui or none. As --ui.",
    },
    SettingKey {
        table: "run",
        name: "hotkey",
        kind: ValueKind::Text,
        default: Some("\"ctrl-g\""),
        unset: "",
        example: None,
        meaning: "The key that shows the questions over the command: ctrl-X, alt-X or F1 to F24. \
                  As --hotkey and the variable TEROK_CLEARANCE_HOTKEY.",
    },
    SettingKey {
        table: "run",
        name: "check_sni",
        kind: ValueKind::Boolean,
        default: Some("false"),
        unset: "",
        example: None,
        meaning: "Whether connections to a name are refused that ask its servers for a name that \
                  is not allowed. As --check-sni.",
    },
    SettingKey {
        table: "run",
        name: "proxy",
        kind: ValueKind::Text,
        default: None,
        unset: "the variables HTTPS_PROXY, http_proxy, ALL_PROXY and NO_PROXY",
        example: Some("\"http://proxy.example.com:3128\""),
        meaning: "The proxy through which connections are made: http://HOST:PORT, \
                  socks5://HOST:PORT, or none. As --proxy.",
    },
    SettingKey {
        table: "run",
        name: "pids",
        kind: ValueKind::Number(1),
        default: None,
        unset: "half of yours, at most 4096",
        example: Some("1024"),
        meaning: "Most processes and threads of the command. As --pids.",
    },
    SettingKey {
        table: "run",
        name: "memory",
        kind: ValueKind::Text,
        default: None,
        unset: "no limit",
        example: Some("\"4G\""),
        meaning: "Most memory of the command, such as 512M or 4G. As --memory.",
    },
    SettingKey {
        table: "run",
        name: "open_files",
        kind: ValueKind::Number(16),
        default: None,
        unset: "768, no limit for root",
        example: Some("512"),
        meaning: "Most files that a process of the command has open. As --open-files.",
    },
    SettingKey {
        table: "run",
        name: "approver",
        kind: ValueKind::Command,
        default: None,
        unset: "none: you are asked",
        example: Some("[\"/usr/local/bin/my-approver\", \"--strict\"]"),
        meaning: "A program that looks at each question before you do: its path, or a list of the \
                  path and arguments. No shell interprets it.",
    },
    SettingKey {
        table: "run",
        name: "approver_timeout",
        kind: ValueKind::TimeSpan,
        default: Some("\"10s\""),
        unset: "",
        example: None,
        meaning: "How long the approver may take; then you are asked.",
    },
    SettingKey {
        table: "ask",
        name: "bell",
        kind: ValueKind::Word(&["off", "bell", "osc9", "osc777"]),
        default: Some("\"bell\""),
        unset: "",
        example: None,
        meaning: "The sign of a new question at a terminal: off, bell, or a bell and a desktop \
                  notification by osc9 or osc777. As --bell.",
    },
    SettingKey {
        table: "ask",
        name: "default_scope",
        kind: ValueKind::Lifetime,
        default: Some("\"run\""),
        unset: "",
        example: None,
        meaning: "How long an answer lasts unless you choose otherwise: once, 5m, 1h, run, \
                  project or always.",
    },
    SettingKey {
        table: "record",
        name: "enabled",
        kind: ValueKind::Boolean,
        default: Some("true"),
        unset: "",
        example: None,
        meaning: "Whether questions, answers and connections are recorded.",
    },
    SettingKey {
        table: "record",
        name: "rotate_size",
        kind: ValueKind::Text,
        default: Some("\"16M\""),
        unset: "",
        example: None,
        meaning: "The size at which the file of the record is replaced by a new one.",
    },
    SettingKey {
        table: "record",
        name: "keep",
        kind: ValueKind::Number(1),
        default: Some("8"),
        unset: "",
        example: None,
        meaning: "How many files of the record are kept.",
    },
    SettingKey {
        table: "notify",
        name: "events",
        kind: ValueKind::Words(&[
            "blocked",
            "verdict",
            "shield_up",
            "shield_down",
            "container_started",
            "container_exited",
            "all",
        ]),
        default: Some("[\"blocked\", \"verdict\"]"),
        unset: "",
        example: None,
        meaning: "The kinds of popups: blocked, verdict, shield_up, shield_down, \
                  container_started, container_exited, or all. As the variable \
                  TEROK_CLEARANCE_NOTIFY_EVENTS.",
    },
    SettingKey {
        table: "ui",
        name: "color",
        kind: ValueKind::Word(&["auto", "always", "never"]),
        default: Some("\"auto\""),
        unset: "",
        example: None,
        meaning: "When to use colours: auto (on a terminal), always or never. As --color; the \
                  variables NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE and CLICOLOR come before it.",
    },
];
