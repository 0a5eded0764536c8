// SPDX-License-Identifier: Apache-2.0
//! Tests of `run` as root and as an ordinary user: required behaviour and prevented escapes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod behaviour;
mod budgets;
mod console;
mod dialed_failures;
mod dialed_hold;
mod dialed_hostile;
mod dialed_lookups;
mod dialed_names;
mod dialed_relay;
mod dialed_zones;
mod escape;
mod hotkey;
mod kernel;
mod lab;
mod machine;
mod nested;
mod network;
mod operator;
mod peers;
mod publish;
mod real_clients;
mod root_owned;
mod rules;
mod standard_streams;
mod terminal;
mod terminal_state;
mod unix_sockets;
mod user;
mod whole_screen;
