// SPDX-License-Identifier: Apache-2.0
//! Turns the packets that the firewall dropped into events: bytes to facts to events.
