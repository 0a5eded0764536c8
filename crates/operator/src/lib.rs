// SPDX-License-Identifier: Apache-2.0
//! The people's side: the inbox of questions and the prompts that show it.

pub mod inbox;
