// SPDX-License-Identifier: Apache-2.0
//! Turns policy into kernel rules: the default-deny nftables ruleset over netlink.
