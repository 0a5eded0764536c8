// SPDX-License-Identifier: Apache-2.0
//! Builds the sandbox of `run` and `demo`.
