// SPDX-License-Identifier: Apache-2.0
//! The last results of calls, for callers that did not get them.
//!
//! A signal can interrupt a caller after its call was carried out; the kernel then repeats the call
//! on a socket that is connected or bound by now.

use std::collections::VecDeque;

use super::waiting_connects::SocketCookie;
use crate::sys::seccomp::NotifiedCall;

/// Results kept. A repetition comes within microseconds.
const MAX_OUTCOMES: usize = 64;

/// The last results, the oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentOutcomes(VecDeque<RecentOutcome>);

#[derive(Debug)]
struct RecentOutcome {
    cookie: SocketCookie,
    call: NotifiedCall,
    errno: i32,
}

impl RecentOutcomes {
    pub(super) fn insert(&mut self, cookie: SocketCookie, call: NotifiedCall, errno: i32) {
        let Self(outcomes) = self;
        if outcomes.len() >= MAX_OUTCOMES {
            outcomes.pop_front();
        }
        outcomes.push_back(RecentOutcome {
            cookie,
            call,
            errno,
        });
    }

    /// Takes the result of the same call of the same thread on the same socket.
    pub(super) fn take(&mut self, cookie: SocketCookie, call: NotifiedCall) -> Option<i32> {
        let Self(outcomes) = self;
        let is_same = |outcome: &RecentOutcome| {
            let before = outcome.call;
            outcome.cookie == cookie
                && (before.thread, before.number, before.arguments)
                    == (call.thread, call.number, call.arguments)
        };
        let index = outcomes.iter().rposition(is_same)?;
        outcomes.remove(index).map(|outcome| outcome.errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: u64, thread: u32) -> NotifiedCall {
        NotifiedCall {
            id,
            thread,
            number: libc::SYS_connect,
            arguments: [3, 0x1000, 16, 0, 0, 0],
        }
    }

    #[test]
    fn a_repeated_call_gets_the_result_of_the_first_once() {
        let mut recent = RecentOutcomes::default();
        recent.insert(SocketCookie(1), call(10, 7), 0);
        assert_eq!(recent.take(SocketCookie(2), call(11, 7)), None);
        assert_eq!(recent.take(SocketCookie(1), call(11, 8)), None);
        let other = NotifiedCall {
            number: libc::SYS_bind,
            ..call(11, 7)
        };
        assert_eq!(recent.take(SocketCookie(1), other), None);
        assert_eq!(recent.take(SocketCookie(1), call(11, 7)), Some(0));
        assert_eq!(recent.take(SocketCookie(1), call(12, 7)), None);
    }

    #[test]
    fn old_results_are_dropped() {
        let mut recent = RecentOutcomes::default();
        for number in 0..1000 {
            recent.insert(SocketCookie(number), call(number, 7), 0);
        }
        assert_eq!(recent.0.len(), MAX_OUTCOMES);
        assert_eq!(recent.take(SocketCookie(999), call(1000, 7)), Some(0));
    }
}
