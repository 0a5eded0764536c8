// SPDX-License-Identifier: Apache-2.0
//! One sandbox's whole: reader, hub, verdict and shield in one process.
