// SPDX-License-Identifier: Apache-2.0
//! The question as the approver reads it, and the answer as it writes it.

use hub::ledger::RequestedScope;
use serde::{Deserialize, Serialize};
use terok_clearance::wire::clearance2::Request;
use terok_clearance::{Action, Dest, DisplayText, RuleLifetime, Scope};

use super::ApproverError;

/// The longest time of an answer: 7 days.
const MAX_SECONDS: u32 = 7 * 24 * 60 * 60;

/// What the approver decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApproverVerdict {
    /// Allow or deny.
    Decide(Action, RequestedScope),
    /// A person decides.
    Ask,
}

/// The approver's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApproverAnswer {
    pub(super) verdict: ApproverVerdict,
    pub(super) reason: DisplayText,
}

/// Returns the question as one JSON object: the `Request` of Clearance2, and what may be answered.
pub(super) fn encode_question(question: &Request) -> Vec<u8> {
    #[derive(Serialize)]
    struct ApproverQuestion<'a> {
        #[serde(flatten)]
        request: &'a Request,
        answers: OfferedAnswers<'a>,
    }
    #[derive(Serialize)]
    struct OfferedAnswers<'a> {
        verdict: [&'static str; 3],
        #[serde(rename = "for")]
        lifetimes: Vec<&'static str>,
        #[serde(rename = "as")]
        dests: Vec<&'a Dest>,
    }
    let lifetimes = question.lifetimes.iter().flat_map(|keep| match keep {
        RuleLifetime::Once => &["once"][..],
        RuleLifetime::Sandbox => &["10m", "run"],
        RuleLifetime::Project => &["project"],
        RuleLifetime::Always => &["always"],
        RuleLifetime::UntilRemoved => &[],
    });
    let question = ApproverQuestion {
        request: question,
        answers: OfferedAnswers {
            verdict: ["allow", "deny", "ask"],
            lifetimes: lifetimes.copied().collect(),
            dests: std::iter::once(&question.dest)
                .chain(&question.wider)
                .collect(),
        },
    };
    // Serializing these types to memory does not fail; nothing is no question that any program
    // would allow.
    let mut json = serde_json::to_vec(&question).unwrap_or_default();
    json.push(b'\n');
    json
}

/// Parses an answer to `question`. One that is wider than the question offers is none.
pub(super) fn parse_answer(
    output: &[u8],
    question: &Request,
) -> Result<ApproverAnswer, ApproverError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)] // such a field could be a limit
    struct WrittenAnswer {
        verdict: WrittenVerdict,
        #[serde(default)]
        reason: DisplayText,
        #[serde(rename = "for")]
        lifetime: Option<String>,
        #[serde(rename = "as")]
        dest: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum WrittenVerdict {
        Allow,
        Deny,
        Ask,
    }
    // serde takes a list for an object, too.
    if !output.trim_ascii_start().starts_with(b"{") {
        return Err(ApproverError::Garbage("no JSON object".into()));
    }
    let answer: WrittenAnswer = serde_json::from_slice(output)
        .map_err(|error| ApproverError::Garbage(DisplayText::new(&error.to_string())))?;
    let action = match answer.verdict {
        WrittenVerdict::Allow => Action::Allow,
        WrittenVerdict::Deny => Action::Deny,
        WrittenVerdict::Ask => {
            return Ok(ApproverAnswer {
                verdict: ApproverVerdict::Ask,
                reason: answer.reason,
            });
        }
    };
    let scope = match (answer.lifetime, answer.dest) {
        (None, None) => RequestedScope::Default,
        (lifetime, dest) => RequestedScope::Explicit(scope_of(question, lifetime, dest)?),
    };
    Ok(ApproverAnswer {
        verdict: ApproverVerdict::Decide(action, scope),
        reason: answer.reason,
    })
}

/// Returns the scope of an answer with a lifetime or a wider name.
fn scope_of(
    question: &Request,
    lifetime: Option<String>,
    dest: Option<String>,
) -> Result<Scope, ApproverError> {
    let not_offered = |what: &str| ApproverError::NotOffered(DisplayText::new(what));
    let mut scope = question.scope.clone();
    if let Some(dest) = dest {
        let mut offered = std::iter::once(&question.dest).chain(&question.wider);
        let offered = offered.find(|offered| offered.as_str() == dest);
        scope.dest = offered
            .ok_or_else(|| not_offered(&format!("as {dest}")))?
            .clone();
    }
    if let Some(lifetime) = lifetime {
        let parsed = parse_lifetime(&lifetime);
        let offered = parsed.filter(|(keep, _)| question.lifetimes.contains(keep));
        let offered = offered.ok_or_else(|| not_offered(&format!("for {lifetime}")))?;
        (scope.keep, scope.seconds) = offered;
    }
    Ok(scope)
}

/// Parses `once`, `run`, `project`, `always`, or a time such as `90s`, `10m` or `2h`.
fn parse_lifetime(text: &str) -> Option<(RuleLifetime, Option<u32>)> {
    let keep = match text {
        "once" => RuleLifetime::Once,
        "run" => RuleLifetime::Sandbox,
        "project" => RuleLifetime::Project,
        "always" => RuleLifetime::Always,
        _ => {
            let units = [('s', 1), ('m', 60), ('h', 60 * 60)];
            let (number, unit) = units
                .into_iter()
                .find_map(|(letter, unit)| Some((text.strip_suffix(letter)?, unit)))?;
            if !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let seconds = number.parse::<u32>().ok()?.checked_mul(unit)?;
            let is_offered = (1..=MAX_SECONDS).contains(&seconds);
            return is_offered.then_some((RuleLifetime::Sandbox, Some(seconds)));
        }
    };
    Some((keep, None))
}

#[cfg(test)]
mod tests {
    use terok_clearance::{BlockedPacket, Dossier, NetworkZone, Protocol, Timestamp};

    use super::*;

    fn question() -> Request {
        let blocked = BlockedPacket {
            container: "web".parse().unwrap(),
            request: "web:1".parse().unwrap(),
            address: "api.example.com".parse().unwrap(),
            port: 443,
            protocol: Protocol::TCP,
            domain: None,
            dossier: Dossier::default(),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: Some("to deploy".into()),
        };
        let scope = Scope {
            port: Some(443),
            protocol: Some(Protocol::TCP),
            ..Scope::whole_dest(blocked.address.clone())
        };
        Request {
            wider: vec!["*.example.com".parse().unwrap()],
            lifetimes: vec![RuleLifetime::Once, RuleLifetime::Sandbox],
            ..Request::new(blocked, scope, Timestamp::from_micros(1))
        }
    }

    fn scope_of_answer(json: &str) -> Scope {
        match parse_answer(json.as_bytes(), &question()).unwrap().verdict {
            ApproverVerdict::Decide(_, RequestedScope::Explicit(scope)) => scope,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn an_answer_has_the_scope_that_it_names() {
        let answer = parse_answer(br#"{"verdict":"deny"}"#, &question()).unwrap();
        let decided = ApproverVerdict::Decide(Action::Deny, RequestedScope::Default);
        assert_eq!(answer.verdict, decided);
        let own = question().scope;
        for (written, keep, seconds) in [
            ("once", RuleLifetime::Once, None),
            ("run", RuleLifetime::Sandbox, None),
            ("90s", RuleLifetime::Sandbox, Some(90)),
            ("10m", RuleLifetime::Sandbox, Some(600)),
            ("168h", RuleLifetime::Sandbox, Some(604_800)),
        ] {
            let json = format!(r#"{{"verdict":"allow","for":"{written}"}}"#);
            let expected = Scope {
                keep,
                seconds,
                ..own.clone()
            };
            assert_eq!(scope_of_answer(&json), expected, "{written}");
        }
        let wide = scope_of_answer(r#"{"verdict":"allow","as":"*.example.com"}"#);
        let dest = "*.example.com".parse().unwrap();
        assert_eq!(wide, Scope { dest, ..own });
    }

    #[test]
    fn a_wider_answer_and_garbage_are_no_answer() {
        for json in [
            r#"{"verdict":"allow","for":"always"}"#,
            r#"{"verdict":"allow","for":"project"}"#,
            r#"{"verdict":"allow","for":"0s"}"#,
            r#"{"verdict":"allow","for":"169h"}"#,
            r#"{"verdict":"allow","for":"99999999h"}"#,
            r#"{"verdict":"allow","for":"+1h"}"#,
            r#"{"verdict":"allow","for":""}"#,
            r#"{"verdict":"allow","as":"*.com"}"#,
            r#"{"verdict":"allow","as":"*"}"#,
            r#"{"verdict":"allow","as":"other.example.com"}"#,
            r#"{"verdict":"Allow"}"#,
            r#"{"verdict":"allow","verdict":"deny"}"#,
            r#"{"verdict":"allow","port":1}"#,
            r#"{"verdict":"allow"} {}"#,
            r#"["allow"]"#,
            r#"{"reason":"x"}"#,
            "allow",
            "",
        ] {
            assert!(
                parse_answer(json.as_bytes(), &question()).is_err(),
                "{json}"
            );
        }
    }

    #[test]
    fn a_question_tells_what_may_be_answered() {
        let json: serde_json::Value =
            serde_json::from_slice(&encode_question(&question())).unwrap();
        assert_eq!(json["dest"], "api.example.com");
        assert_eq!(json["reason"], "to deploy");
        let answers = serde_json::json!({
            "verdict": ["allow", "deny", "ask"],
            "for": ["once", "10m", "run"],
            "as": ["api.example.com", "*.example.com"],
        });
        assert_eq!(json["answers"], answers);
    }

    proptest::proptest! {
        #[test]
        fn no_output_panics(output in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(parse_answer(&output, &question()));
        }
    }
}
