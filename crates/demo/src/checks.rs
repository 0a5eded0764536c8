// SPDX-License-Identifier: Apache-2.0
//! Compares the answers with the firewall's effect: allowed fetches passed, all others did not.
//!
//! Each check has three sources: the program in the sandbox, which received a page or an error; the
//! sets in the kernel; and the simulated internet, which counts the connections to each host.

use std::net::SocketAddr;

use serde::Serialize;
use terok_clearance::Action;

/// The observations of one fetch.
#[expect(clippy::struct_excessive_bools, reason = "each is one observation")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FetchObservation {
    /// URL, for messages.
    pub(crate) url: String,
    /// Address and port.
    pub(crate) host: Option<SocketAddr>,
    /// Whether an answer can open the host.
    pub(crate) may_be_asked: bool,
    /// Whether the first attempt passed, before any question.
    pub(crate) passed_unasked: bool,
    /// Whether a question was asked.
    pub(crate) asked: bool,
    /// The answer, if there was one.
    pub(crate) answer: Option<Action>,
    /// Whether the kernel's sets contain the element for the answer.
    pub(crate) is_set: bool,
    /// Whether the second attempt passed.
    pub(crate) passed: bool,
    /// The number of connections counted by the host; `None` if unknown.
    pub(crate) connection_count: Option<usize>,
    /// Whether the hub accepted an answer to a question that was never asked.
    pub(crate) forgery_accepted: bool,
    /// Whether the fetch ended; interrupted fetches are not checked.
    pub(crate) is_complete: bool,
}

/// The counts and faults of a demo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DemoVerdict {
    /// Number of questions.
    pub(crate) asked: usize,
    /// Number of questions answered with allow.
    pub(crate) allowed: usize,
    /// Number of questions answered with deny.
    pub(crate) denied: usize,
    /// Number of questions without an answer.
    pub(crate) unanswered: usize,
    /// Number of fetches whose second attempt passed.
    pub(crate) passed: usize,
    /// Number of all other fetches.
    pub(crate) refused: usize,
    /// Descriptions of faults.
    pub(crate) problems: Vec<String>,
    /// Descriptions of parts that were not shown. A missing part is not a fault, but prevents
    /// success.
    pub(crate) missing: Vec<String>,
}

impl DemoVerdict {
    /// Returns `true` without faults and missing parts.
    pub(crate) const fn is_success(&self) -> bool {
        self.problems.is_empty() && self.missing.is_empty()
    }
}

/// Returns the counts and faults of all observations.
pub(crate) fn check_fetches(fetches: &[FetchObservation]) -> DemoVerdict {
    let count = |what: &dyn Fn(&&FetchObservation) -> bool| fetches.iter().filter(what).count();
    let answered = |action| count(&|seen| seen.asked && seen.answer == Some(action));
    DemoVerdict {
        asked: count(&|seen| seen.asked),
        allowed: answered(Action::Allow),
        denied: answered(Action::Deny),
        unanswered: count(&|seen| seen.asked && seen.answer.is_none()),
        passed: count(&|seen| seen.passed),
        refused: count(&|seen| !seen.passed),
        problems: fetches
            .iter()
            .filter(|seen| seen.is_complete)
            .flat_map(|seen| find_problems(seen).map(|problem| format!("{}: {problem}", seen.url)))
            .collect(),
        missing: fetches
            .iter()
            .filter(|seen| {
                seen.is_complete && seen.may_be_asked && seen.asked && seen.answer.is_none()
            })
            .map(|seen| format!("{}: no answer; it stays closed", seen.url))
            .collect(),
    }
}

fn find_problems(seen: &FetchObservation) -> impl Iterator<Item = &'static str> {
    let allowed = seen.may_be_asked && seen.asked && seen.answer == Some(Action::Allow);
    [
        (seen.passed_unasked, "it passed before a question was asked"),
        (seen.may_be_asked && !seen.asked, "no question was asked"),
        (
            !seen.may_be_asked && seen.asked,
            "a question was asked about a host that no answer can open",
        ),
        (seen.forgery_accepted, "a forged answer was accepted"),
        (
            seen.asked && seen.answer.is_some() && !seen.is_set,
            "the kernel's sets lack the answer's element",
        ),
        (allowed && !seen.passed, "it was allowed and did not pass"),
        (!allowed && seen.passed, "it passed and was not allowed"),
        (
            seen.passed && seen.connection_count == Some(0),
            "the program got a page that the host did not send",
        ),
        (
            !allowed && !seen.passed && seen.connection_count.is_some_and(|times| times > 0),
            "its host was reached without permission",
        ),
    ]
    .into_iter()
    .filter_map(|(is_so, problem)| is_so.then_some(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> FetchObservation {
        FetchObservation {
            url: "http://a/".to_owned(),
            may_be_asked: true,
            asked: true,
            answer: Some(Action::Allow),
            is_set: true,
            passed: true,
            connection_count: Some(1),
            is_complete: true,
            ..FetchObservation::default()
        }
    }

    fn denied() -> FetchObservation {
        FetchObservation {
            answer: Some(Action::Deny),
            passed: false,
            connection_count: Some(0),
            ..allowed()
        }
    }

    fn never() -> FetchObservation {
        FetchObservation {
            url: "http://m/".to_owned(),
            connection_count: Some(0),
            is_complete: true,
            ..FetchObservation::default()
        }
    }

    #[test]
    fn a_demo_succeeds_if_only_allowed_fetches_passed() {
        let verdict = check_fetches(&[allowed(), denied(), never()]);
        assert_eq!(
            verdict,
            DemoVerdict {
                asked: 2,
                allowed: 1,
                denied: 1,
                unanswered: 0,
                passed: 1,
                refused: 2,
                problems: Vec::new(),
                missing: Vec::new(),
            }
        );
    }

    #[test]
    fn an_unanswered_question_is_missing_but_no_fault() {
        let unanswered = FetchObservation {
            answer: None,
            is_set: false,
            ..denied()
        };
        let verdict = check_fetches(&[allowed(), unanswered]);
        assert_eq!(verdict.problems, Vec::<String>::new());
        assert_eq!(verdict.missing, ["http://a/: no answer; it stays closed"]);
        assert_eq!(verdict.unanswered, 1);
    }

    #[test]
    fn an_interrupted_fetch_is_not_checked() {
        let halfway = FetchObservation {
            is_set: false,
            passed: false,
            connection_count: None,
            is_complete: false,
            ..allowed()
        };
        assert_eq!(check_fetches(&[halfway]).problems, Vec::<String>::new());
    }

    /// Finds each kind of failure even if everything else is correct.
    #[test]
    fn every_failure_of_a_firewall_is_found() {
        check(allowed(), "allowed and did not pass", |seen| {
            (seen.passed, seen.connection_count) = (false, Some(0));
        });
        check(allowed(), "the kernel's sets lack", |seen| {
            seen.is_set = false;
        });
        check(allowed(), "before a question was asked", |seen| {
            seen.passed_unasked = true;
        });
        check(allowed(), "that the host did not send", |seen| {
            seen.connection_count = Some(0);
        });
        check(allowed(), "no question was asked", |seen| {
            seen.asked = false;
        });
        check(allowed(), "passed and was not allowed", |seen| {
            seen.asked = false;
        });
        check(allowed(), "passed and was not allowed", |seen| {
            seen.answer = None;
        });
        check(denied(), "passed and was not allowed", |seen| {
            (seen.passed, seen.connection_count) = (true, Some(1));
        });
        check(denied(), "its host was reached", |seen| {
            seen.connection_count = Some(1);
        });
        check(denied(), "the kernel's sets lack", |seen| {
            seen.is_set = false;
        });
        check(never(), "that no answer can open", |seen| {
            seen.asked = true;
        });
        check(never(), "passed and was not allowed", |seen| {
            (seen.passed, seen.connection_count) = (true, Some(1));
        });
        check(never(), "its host was reached", |seen| {
            seen.connection_count = Some(2);
        });
        check(never(), "a forged answer was accepted", |seen| {
            seen.forgery_accepted = true;
        });
        // A metadata address stays closed even if a question about it is answered.
        check(allowed(), "passed and was not allowed", |seen| {
            seen.may_be_asked = false;
        });
    }

    fn check(mut seen: FetchObservation, problem: &str, sabotage: fn(&mut FetchObservation)) {
        sabotage(&mut seen);
        let verdict = check_fetches(&[allowed(), seen.clone(), denied()]);
        assert!(
            verdict.problems.iter().any(|said| said.contains(problem)),
            "{problem}: {seen:?}: {:?}",
            verdict.problems
        );
    }
}
