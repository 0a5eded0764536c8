// SPDX-License-Identifier: Apache-2.0
//! Compares the answers with the firewall's effect: allowed fetches passed, all others did not.
//!
//! Each check has three sources: the program in the sandbox, which received a page or an error; the
//! supervisor's rules and connections; and the simulated internet, which counts the connections to
//! each host and the lookups of each name.

use std::net::SocketAddr;

use serde::Serialize;
use terok_clearance::Action;

use crate::supervisor_trace::SupervisorTrace;
use crate::topology::FakeHost;

/// The observations of one fetch.
#[expect(clippy::struct_excessive_bools, reason = "each is one observation")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FetchObservation {
    /// URL, for messages.
    pub(crate) url: String,
    /// The host; `None` in an empty observation.
    pub(crate) host: Option<FakeHost>,
    /// Whether the attempt passed before any answer.
    pub(crate) passed_unasked: bool,
    /// Whether a question was asked.
    pub(crate) asked: bool,
    /// Whether the supervisor said that the host is never opened.
    pub(crate) is_noticed: bool,
    /// The answer, if there was one.
    pub(crate) answer: Option<Action>,
    /// Whether the program was refused while the question waited.
    pub(crate) refused_early: bool,
    /// The rules about the host.
    pub(crate) rules: Vec<Action>,
    /// The addresses of the connections that the supervisor made for the host.
    pub(crate) dialed: Vec<SocketAddr>,
    /// Whether the program got the page.
    pub(crate) passed: bool,
    /// The number of connections counted by the host; `None` if unknown.
    pub(crate) connection_count: Option<usize>,
    /// The number of lookups of the name outside; `None` if unknown.
    pub(crate) lookup_count: Option<usize>,
    /// Whether the hub accepted an answer to a question that was never asked.
    pub(crate) forgery_accepted: bool,
    /// Whether the fetch ended; interrupted fetches are not checked.
    pub(crate) is_complete: bool,
}

impl FetchObservation {
    /// Returns the observation of a fetch that begins.
    pub(crate) fn of_host(host: FakeHost) -> Self {
        Self {
            url: host.url(),
            host: Some(host),
            ..Self::default()
        }
    }

    /// Adds what the supervisor did for the host.
    pub(crate) fn add_trace(&mut self, trace: &SupervisorTrace) {
        let Some(host) = &self.host else {
            return;
        };
        let dest = host.dest();
        let rules = trace.rules().into_iter().filter(|rule| rule.dest == dest);
        self.rules = rules.map(|rule| rule.action).collect();
        self.dialed = trace.connections_to(host);
        self.is_noticed = trace.has_floor_notice(host);
    }

    /// Returns `true` if an answer can open the host.
    fn may_be_asked(&self) -> bool {
        self.host.is_some_and(|host| host.may_be_asked)
    }

    fn has_name(&self) -> bool {
        self.host.is_some_and(|host| host.name.is_some())
    }
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
    /// Number of fetches that passed.
    pub(crate) passed: usize,
    /// Number of all other fetches.
    pub(crate) refused: usize,
    /// Number of names that the program asked for.
    pub(crate) names: usize,
    /// Number of names that were looked up outside; `None` if unknown.
    pub(crate) looked_up: Option<usize>,
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
        names: count(&|seen| seen.has_name()),
        looked_up: fetches
            .iter()
            .filter(|seen| seen.has_name())
            .map(|seen| seen.lookup_count.map(|times| usize::from(times > 0)))
            .sum(),
        problems: fetches
            .iter()
            .filter(|seen| seen.is_complete)
            .flat_map(|seen| find_problems(seen).map(|problem| format!("{}: {problem}", seen.url)))
            .collect(),
        missing: fetches
            .iter()
            .filter(|seen| {
                seen.is_complete && seen.may_be_asked() && seen.asked && seen.answer.is_none()
            })
            .map(|seen| format!("{}: no answer; it stays closed", seen.url))
            .collect(),
    }
}

fn find_problems(seen: &FetchObservation) -> impl Iterator<Item = &'static str> {
    let allowed = seen.may_be_asked() && seen.asked && seen.answer == Some(Action::Allow);
    [
        (seen.passed_unasked, "it passed before an answer"),
        (seen.may_be_asked() && !seen.asked, "no question was asked"),
        (
            !seen.may_be_asked() && seen.asked,
            "a question was asked about a host that no answer can open",
        ),
        (
            !seen.may_be_asked() && !seen.is_noticed,
            "its refusal was not reported",
        ),
        (seen.forgery_accepted, "a forged answer was accepted"),
        (
            seen.refused_early,
            "the program was refused before the answer",
        ),
        (
            seen.asked && seen.answer.is_some() && !seen.rules.iter().eq(&seen.answer),
            "its rules differ from the answer",
        ),
        (
            seen.answer.is_none() && !seen.rules.is_empty(),
            "a rule was made without an answer",
        ),
        (allowed && !seen.passed, "it was allowed and did not pass"),
        (!allowed && seen.passed, "it passed and was not allowed"),
        (
            allowed
                && seen
                    .dialed
                    .iter()
                    .any(|to| Some(*to) != seen.host.map(|host| host.socket_address())),
            "the supervisor connected to another address",
        ),
        (
            !allowed && !seen.dialed.is_empty(),
            "the supervisor connected without permission",
        ),
        (
            seen.passed && (seen.connection_count == Some(0) || seen.dialed.is_empty()),
            "the program got a page that the host did not send",
        ),
        (
            !allowed && !seen.passed && seen.connection_count.is_some_and(|times| times > 0),
            "its host was reached without permission",
        ),
        (
            !allowed && seen.lookup_count.is_some_and(|times| times > 0),
            "its name was looked up without permission",
        ),
        (
            seen.passed && seen.has_name() && seen.lookup_count == Some(0),
            "it passed and its name was not looked up",
        ),
    ]
    .into_iter()
    .filter_map(|(is_so, problem)| is_so.then_some(problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;

    fn host() -> FakeHost {
        topology::HOSTS[0]
    }

    fn allowed() -> FetchObservation {
        FetchObservation {
            url: "http://a/".to_owned(),
            host: Some(host()),
            asked: true,
            answer: Some(Action::Allow),
            rules: vec![Action::Allow],
            dialed: vec![host().socket_address()],
            passed: true,
            connection_count: Some(1),
            lookup_count: Some(2),
            is_complete: true,
            ..FetchObservation::default()
        }
    }

    fn denied() -> FetchObservation {
        FetchObservation {
            answer: Some(Action::Deny),
            rules: vec![Action::Deny],
            dialed: Vec::new(),
            passed: false,
            connection_count: Some(0),
            lookup_count: Some(0),
            ..allowed()
        }
    }

    fn never() -> FetchObservation {
        FetchObservation {
            url: "http://m/".to_owned(),
            host: topology::HOSTS.into_iter().find(|host| !host.may_be_asked),
            is_noticed: true,
            connection_count: Some(0),
            lookup_count: Some(0),
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
                names: 2,
                looked_up: Some(1),
                problems: Vec::new(),
                missing: Vec::new(),
            }
        );
    }

    #[test]
    fn an_unanswered_question_is_missing_but_no_fault() {
        let unanswered = FetchObservation {
            answer: None,
            rules: Vec::new(),
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
            rules: Vec::new(),
            passed: false,
            connection_count: None,
            lookup_count: None,
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
        check(allowed(), "rules differ from the answer", |seen| {
            seen.rules.clear();
        });
        check(allowed(), "rules differ from the answer", |seen| {
            seen.rules.push(Action::Allow);
        });
        check(allowed(), "passed before an answer", |seen| {
            seen.passed_unasked = true;
        });
        check(allowed(), "refused before the answer", |seen| {
            seen.refused_early = true;
        });
        check(allowed(), "to another address", |seen| {
            seen.dialed = vec!["203.0.113.30:80".parse().unwrap()];
        });
        check(allowed(), "that the host did not send", |seen| {
            seen.dialed.clear();
        });
        check(allowed(), "was not looked up", |seen| {
            seen.lookup_count = Some(0);
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
        check(denied(), "rules differ from the answer", |seen| {
            seen.rules = vec![Action::Allow];
        });
        check(denied(), "a rule was made without an answer", |seen| {
            seen.answer = None;
        });
        check(denied(), "connected without permission", |seen| {
            seen.dialed = vec![host().socket_address()];
        });
        check(denied(), "looked up without permission", |seen| {
            seen.lookup_count = Some(1);
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
        check(never(), "its refusal was not reported", |seen| {
            seen.is_noticed = false;
        });
        check(never(), "a forged answer was accepted", |seen| {
            seen.forgery_accepted = true;
        });
        // A metadata address stays closed even if a question about it is answered.
        check(allowed(), "passed and was not allowed", |seen| {
            seen.host = never().host;
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
