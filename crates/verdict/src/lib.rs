// SPDX-License-Identifier: Apache-2.0
//! Turns an answer into an order to the shield: the ClearanceVerdict1 server, client and backends.
