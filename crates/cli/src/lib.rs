// SPDX-License-Identifier: Apache-2.0
//! terok-clearance: arguments, wiring, words and exit codes.
