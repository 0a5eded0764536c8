// SPDX-License-Identifier: Apache-2.0
//! The end-to-end benchmark: every figure beside its floor, in one run.
