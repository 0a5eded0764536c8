// SPDX-License-Identifier: Apache-2.0
//! Whether the firewall did what was answered: what was allowed passed, and nothing else.
//!
//! Three witnesses are heard for each fetch: the program, which saw a page or an error; the kernel,
//! whose sets were read; and the pretend internet, which knows who reached it.

use std::net::SocketAddr;

use serde::Serialize;
use terok_clearance::Action;

/// What was seen of one fetch.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is what one witness says"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FetchObservation {
    /// What is fetched, for the words.
    pub(super) url: String,
    /// Where that is.
    pub(super) host: Option<SocketAddr>,
    /// Whether the firewall may ask about it.
    pub(super) may_be_asked: bool,
    /// Whether the first attempt got through, before anybody was asked.
    pub(super) passed_unasked: bool,
    /// Whether there was a question.
    pub(super) asked: bool,
    /// The answer.
    pub(super) answer: Option<Action>,
    /// What became of the answer: whether the kernel's sets have it.
    pub(super) is_set: bool,
    /// Whether a later attempt passed.
    pub(super) passed: bool,
    /// How often somebody reached the host, as the host counts; nothing: it was not heard.
    pub(super) connection_count: Option<usize>,
    /// Whether an answer to a question that was never asked was accepted.
    pub(super) forgery_accepted: bool,
    /// Whether it came to its end: what was stopped halfway is not judged.
    pub(super) is_complete: bool,
}

/// The counts, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct DemoVerdict {
    /// How many questions were asked.
    pub(super) asked: usize,
    /// How many were answered with allow.
    pub(super) allowed: usize,
    /// How many were answered with deny.
    pub(super) denied: usize,
    /// How many were not answered.
    pub(super) unanswered: usize,
    /// How many fetches passed in the end.
    pub(super) passed: usize,
    /// How many did not.
    pub(super) refused: usize,
    /// What is wrong, in words.
    pub(super) problems: Vec<String>,
    /// What was not shown, in words: nothing is wrong with it, but it is no success.
    pub(super) missing: Vec<String>,
}

impl DemoVerdict {
    /// Says whether nothing is wrong and nothing is missing.
    pub(super) const fn is_success(&self) -> bool {
        self.problems.is_empty() && self.missing.is_empty()
    }
}

/// Returns what all that was seen comes to. It is as it should be if there are no problems and
/// nothing is missing.
pub(super) fn check_fetches(fetches: &[FetchObservation]) -> DemoVerdict {
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
            .map(|seen| format!("{}: nobody answered; it stays shut", seen.url))
            .collect(),
    }
}

fn find_problems(seen: &FetchObservation) -> impl Iterator<Item = &'static str> {
    let allowed = seen.may_be_asked && seen.asked && seen.answer == Some(Action::Allow);
    [
        (seen.passed_unasked, "it passed before anybody was asked"),
        (seen.may_be_asked && !seen.asked, "nobody was asked"),
        (
            !seen.may_be_asked && seen.asked,
            "somebody was asked about what is never opened",
        ),
        (
            seen.forgery_accepted,
            "an answer that nobody asked for was accepted",
        ),
        (
            seen.asked && seen.answer.is_some() && !seen.is_set,
            "the kernel's sets do not have the answer",
        ),
        (allowed && !seen.passed, "it was allowed and did not pass"),
        (!allowed && seen.passed, "it passed and was not allowed"),
        (
            seen.passed && seen.connection_count == Some(0),
            "the program has a page that the host never sent",
        ),
        (
            !allowed && !seen.passed && seen.connection_count.is_some_and(|times| times > 0),
            "its host was reached, and that was not allowed",
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
    fn it_holds_when_what_was_allowed_passed_and_nothing_else() {
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
    fn what_nobody_answers_is_missing_but_not_wrong() {
        let unanswered = FetchObservation {
            answer: None,
            is_set: false,
            ..denied()
        };
        let verdict = check_fetches(&[allowed(), unanswered]);
        assert_eq!(verdict.problems, Vec::<String>::new());
        assert_eq!(
            verdict.missing,
            ["http://a/: nobody answered; it stays shut"]
        );
        assert_eq!(verdict.unanswered, 1);
    }

    #[test]
    fn what_was_stopped_halfway_is_not_judged() {
        let halfway = FetchObservation {
            is_set: false,
            passed: false,
            connection_count: None,
            is_complete: false,
            ..allowed()
        };
        assert_eq!(check_fetches(&[halfway]).problems, Vec::<String>::new());
    }

    /// Each way in which a firewall can fail is seen, whatever else is as it should be.
    #[test]
    fn every_sabotage_is_a_problem() {
        check(allowed(), "allowed and did not pass", |seen| {
            (seen.passed, seen.connection_count) = (false, Some(0));
        });
        check(allowed(), "the kernel's sets do not have", |seen| {
            seen.is_set = false;
        });
        check(allowed(), "before anybody was asked", |seen| {
            seen.passed_unasked = true;
        });
        check(allowed(), "that the host never sent", |seen| {
            seen.connection_count = Some(0);
        });
        check(allowed(), "nobody was asked", |seen| {
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
        check(denied(), "the kernel's sets do not have", |seen| {
            seen.is_set = false;
        });
        check(never(), "what is never opened", |seen| {
            seen.asked = true;
        });
        check(never(), "passed and was not allowed", |seen| {
            (seen.passed, seen.connection_count) = (true, Some(1));
        });
        check(never(), "its host was reached", |seen| {
            seen.connection_count = Some(2);
        });
        check(never(), "nobody asked for was accepted", |seen| {
            seen.forgery_accepted = true;
        });
        // Not even an answer opens what is never opened.
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
