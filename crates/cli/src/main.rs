// SPDX-License-Identifier: Apache-2.0
//! `terok-clearance`, the program: everything it does is in the library beside it.

fn main() {}
