// SPDX-License-Identifier: Apache-2.0
//! Tests of the service over a real socket, with a program in place of the workload.
