// SPDX-License-Identifier: Apache-2.0
//! Tests of answers, files, ends and revocations, with claims of a real ledger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hub::ledger::{Ledger, QuestionTriple, RequestedScope};
use hub::{Claim, DecisionEnforcer as _, ScopeSupport};
use policy::{RuleSpec, RuleTerm};
use terok_clearance::wire::clearance2::{ExplainParameters, ExplainVerdict};
use terok_clearance::{
    BlockedPacket, Dossier, EnforcementOutcome, NetworkZone, RuleLifetime, Scope,
};

use super::answers::scope_pattern;
use super::*;
use crate::{EarlierAnswer, KeptAnswers, KeptRule, LongestAnswer};

/// Files of kept answers in memory.
#[derive(Debug, Default)]
struct MemoryFiles {
    files: Mutex<HashMap<KeptPlace, Vec<KeptRule>>>,
    are_broken: AtomicBool,
}

impl MemoryFiles {
    fn check(&self) -> Result<(), DisplayText> {
        if self.are_broken.load(Ordering::Relaxed) {
            return Err("no space left".into());
        }
        Ok(())
    }
}

impl KeptAnswers for MemoryFiles {
    fn load(&self, place: KeptPlace) -> Result<Vec<KeptRule>, DisplayText> {
        self.check()?;
        let files = self.files.lock().unwrap();
        Ok(files.get(&place).cloned().unwrap_or_default())
    }

    fn keep(&self, place: KeptPlace, rule: &KeptRule, _comment: &str) -> Result<(), DisplayText> {
        self.check()?;
        let mut files = self.files.lock().unwrap();
        let rules = files.entry(place).or_default();
        rules.retain(|known| known.pattern != rule.pattern);
        rules.push(rule.clone());
        Ok(())
    }

    fn forget(&self, place: KeptPlace, rule: &KeptRule) -> Result<(), DisplayText> {
        self.check()?;
        let mut files = self.files.lock().unwrap();
        files
            .entry(place)
            .or_default()
            .retain(|known| known != rule);
        Ok(())
    }
}

fn rules_of(rules: &[(&str, Action, RuleOrigin)]) -> Vec<RuleSpec> {
    let spec = |(pattern, action, origin): &(&str, Action, RuleOrigin)| RuleSpec {
        pattern: pattern.parse().unwrap(),
        action: *action,
        term: RuleTerm::Run,
        origin: origin.clone(),
        by: DisplayText::default(),
        since: Timestamp::UNIX_EPOCH,
    };
    rules.iter().map(spec).collect()
}

fn start_with(policy: DialedPolicy) -> DialedRules {
    let rules = DialedRules::new(policy, Arc::default(), None).unwrap();
    rules.load_kept().unwrap();
    rules
}

fn start() -> DialedRules {
    start_with(DialedPolicy {
        kept: Some(Arc::new(MemoryFiles::default())),
        allows_bypass: true,
        ..DialedPolicy::default()
    })
}

fn dest(name: &str) -> PacketDest {
    PacketDest {
        host: PacketHost::Name(name.parse().unwrap()),
        port: 443,
        protocol: Protocol::TCP,
    }
}

fn previous(rules: &DialedRules, name: &str) -> Option<Arc<PreviousAnswer>> {
    rules.previous_answer(&dest(name), DestZone::Public)
}

/// Returns the claim of an answer to a question about port 443 of a name.
fn claim(name: &str, action: Action, change: impl FnOnce(&mut Scope)) -> Claim {
    let support = ScopeSupport {
        ports: true,
        offer: start().offered_scopes(),
    };
    let mut ledger = Ledger::new(10, support);
    let now = Timestamp::from_micros(1);
    let blocked = BlockedPacket {
        container: "web".parse().unwrap(),
        request: "web:1".parse().unwrap(),
        address: name.parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: None,
        dossier: Dossier::default(),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    };
    ledger.record(blocked, now);
    let mut scope = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        ..Scope::whole_dest(name.parse().unwrap())
    };
    change(&mut scope);
    let asked = QuestionTriple {
        request: "web:1",
        container: "web",
        dest: name,
    };
    let scope = RequestedScope::Explicit(scope);
    let claimed = ledger.claim(asked, action, scope, "uid 1000".into(), now);
    claimed.unwrap().0
}

async fn answer(rules: &DialedRules, name: &str, action: Action, keep: RuleLifetime) {
    let claim = claim(name, action, |scope| scope.keep = keep);
    assert_eq!(rules.enforce(claim).await, EnforcementOutcome::Applied);
}

fn decide(rules: &DialedRules, name: &str) -> &'static str {
    match rules.decide(&dest(name), DestZone::Public) {
        EgressVerdict::Allow(_) => "allow",
        EgressVerdict::Deny(_) => "deny",
        EgressVerdict::Ask => "ask",
        EgressVerdict::Floor => "floor",
    }
}

fn names(rules: &DialedRules) -> Vec<String> {
    let listed = rules.list_rules();
    let text = |rule: &terok_clearance::wire::clearance2::ListedRule| {
        format!(
            "{} {} {} {}",
            rule.rule, rule.action, rule.dest, rule.origin
        )
    };
    listed.iter().map(text).collect()
}

#[test]
fn a_scope_becomes_the_pattern_of_its_destination_alone() {
    let check = |dest: &str, port, protocol, expected: Option<&str>| {
        let scope = Scope {
            port,
            protocol,
            ..Scope::whole_dest(dest.parse().unwrap())
        };
        let pattern = scope_pattern(&scope).ok();
        let pattern = pattern.map(|pattern| pattern.to_string());
        assert_eq!(pattern.as_deref(), expected, "{dest} {port:?}");
    };
    let tcp = Some(Protocol::TCP);
    check("a.example", Some(443), tcp, Some("a.example:443/tcp"));
    check("a.example", None, None, Some("a.example"));
    check("203.0.113.7", Some(53), None, Some("203.0.113.7:53"));
    check("2001:db8::7", Some(1), tcp, Some("[2001:db8::7]:1/tcp"));
    let icmp = Some(Protocol::ICMP);
    check("a.example", None, icmp, Some("a.example/icmp"));
    check(
        "*.example.com",
        Some(443),
        tcp,
        Some("*.example.com:443/tcp"),
    );
    check("a.example", Some(0), tcp, None);
    check("10.0.0.0/8", None, None, None);
    check("*.", None, None, None);
    check("*.203.0.113.7", None, None, None);
}

#[tokio::test]
async fn an_answer_for_one_connection_is_used_up() {
    let rules = start();
    answer(&rules, "a.example", Action::Allow, RuleLifetime::Once).await;
    let EgressVerdict::Allow(rule) = rules.decide(&dest("a.example"), DestZone::Public) else {
        panic!("not allowed");
    };
    rules.note_uses(rule, 1);
    rules.note_opened(rule);
    assert_eq!(decide(&rules, "a.example"), "ask");
    assert!(rules.list_rules()[0].spent);
    assert!(previous(&rules, "a.example").is_some());
    rules.note_closed(rule);
    assert!(rules.list_rules().is_empty());
    let previous = previous(&rules, "a.example").unwrap();
    assert_eq!(
        (previous.keep, previous.revoked),
        (RuleLifetime::Once, false)
    );
}

#[tokio::test]
async fn a_short_connection_does_not_end_the_answer_for_those_that_waited_with_it() {
    let rules = start();
    answer(&rules, "a.example", Action::Allow, RuleLifetime::Once).await;
    let EgressVerdict::Allow(rule) = rules.decide(&dest("a.example"), DestZone::Public) else {
        panic!("not allowed");
    };
    rules.note_uses(rule, 2);
    let dialed = DialedConnection {
        rule,
        dest: dest("a.example"),
        zone: DestZone::Public,
        address: "203.0.113.7:443".parse().unwrap(),
        is_proxied: false,
        client: "198.18.0.1:1000".parse().unwrap(),
        remote: "198.18.0.2:443".parse().unwrap(),
    };
    // The first one ends before the second one is dialed.
    rules.note_opened(rule);
    rules.note_closed(rule);
    assert_eq!(decide(&rules, "a.example"), "ask");
    assert_eq!(EgressPolicy::rule_to_go_on(&rules, &dialed), Some(rule));
    rules.note_opened(rule);
    rules.note_closed(rule);
    assert!(rules.list_rules().is_empty());
    assert_eq!(EgressPolicy::rule_to_go_on(&rules, &dialed), None);
}

#[tokio::test]
async fn a_later_answer_replaces_an_earlier_one() {
    let rules = start();
    for (action, keep, expected) in [
        (Action::Deny, RuleLifetime::Sandbox, "deny"),
        (Action::Allow, RuleLifetime::Sandbox, "allow"),
        (Action::Deny, RuleLifetime::Project, "deny"),
        (Action::Allow, RuleLifetime::Project, "allow"),
    ] {
        answer(&rules, "a.example", action, keep).await;
        assert_eq!(decide(&rules, "a.example"), expected);
        assert_eq!(rules.list_rules().len(), 1, "{:?}", names(&rules));
    }
}

#[tokio::test]
async fn an_allow_that_a_deny_of_higher_rank_makes_void_is_refused() {
    let rules = start_with(DialedPolicy {
        rules: rules_of(&[
            ("*.example", Action::Deny, RuleOrigin::Flag),
            ("a.test", Action::Deny, RuleOrigin::Organisation),
        ]),
        ..DialedPolicy::default()
    });
    for (name, reason) in [
        (
            "a.example",
            "rule r1 (flag: !*.example) denies the destination; revoke it first",
        ),
        (
            "a.test",
            "rule r2 (organisation: !a.test) denies the destination; revoke it first",
        ),
    ] {
        let outcome = rules.enforce(claim(name, Action::Allow, |_| {})).await;
        assert_eq!(outcome, EnforcementOutcome::Failed(reason.into()));
        assert_eq!(rules.list_rules().len(), 2);
    }
}

#[tokio::test]
async fn kept_answers_are_in_their_file_and_in_the_next_sandbox() {
    let files = Arc::new(MemoryFiles::default());
    let policy = || DialedPolicy {
        kept: Some(Arc::clone(&files) as Arc<dyn KeptAnswers>),
        ..DialedPolicy::default()
    };
    let first = start_with(policy());
    answer(&first, "a.example", Action::Allow, RuleLifetime::Project).await;
    answer(&first, "b.example", Action::Deny, RuleLifetime::Always).await;
    let second = start_with(policy());
    assert_eq!(decide(&second, "a.example"), "allow");
    assert_eq!(decide(&second, "b.example"), "deny");
    // The first one keeps the numbers of rules that stay.
    assert_eq!(
        names(&first),
        [
            "r1 allow a.example:443/tcp project",
            "r2 deny b.example:443/tcp always"
        ]
    );
    let revoked = second.revoke(&"r1".into(), &"me".into()).await.unwrap();
    assert_eq!(revoked.rules.len(), 1);
    assert_eq!(decide(&second, "a.example"), "ask");
    assert_eq!(decide(&start_with(policy()), "a.example"), "ask");
}

#[tokio::test]
async fn a_file_that_cannot_be_changed_opens_nothing() {
    let files = Arc::new(MemoryFiles::default());
    let rules = start_with(DialedPolicy {
        kept: Some(Arc::clone(&files) as Arc<dyn KeptAnswers>),
        ..DialedPolicy::default()
    });
    files.are_broken.store(true, Ordering::Relaxed);
    let keep = |scope: &mut Scope| scope.keep = RuleLifetime::Project;
    let outcome = rules.enforce(claim("a.example", Action::Allow, keep)).await;
    let reason = "the file of kept answers was not changed: no space left";
    assert_eq!(outcome, EnforcementOutcome::Failed(reason.into()));
    assert_eq!(decide(&rules, "a.example"), "ask");
}

#[tokio::test]
async fn the_id_of_a_question_names_the_rules_of_its_answers() {
    let rules = start();
    answer(&rules, "a.example", Action::Allow, RuleLifetime::Sandbox).await;
    answer(&rules, "b.example", Action::Allow, RuleLifetime::Sandbox).await;
    let revoked = rules.revoke(&"web:1".into(), &"me".into()).await.unwrap();
    // Both answers were to the same question, as the claims of this test are.
    assert_eq!(revoked.rules.len(), 2);
    assert!(rules.revoke(&"r1".into(), &"me".into()).await.is_err());
    assert!(previous(&rules, "a.example").unwrap().revoked);
}

#[tokio::test]
async fn rules_end_at_their_time_and_the_internet_closes() {
    let rules = start();
    let short = |scope: &mut Scope| scope.seconds = Some(1);
    let claim = claim("a.example", Action::Allow, short);
    assert_eq!(rules.enforce(claim).await, EnforcementOutcome::Applied);
    rules.bypass(1, &"me".into()).unwrap();
    assert_eq!(decide(&rules, "b.example"), "allow");
    let alarm = BootAlarm::new().unwrap();
    let ended = async {
        while !rules.list_rules().is_empty() {
            rules.shared.changed.notified().await;
        }
    };
    tokio::select! {
        error = rules.follow_ends(alarm) => panic!("{error:?}"),
        ended = tokio::time::timeout(Duration::from_secs(30), ended) => ended.unwrap(),
    }
    assert_eq!(decide(&rules, "a.example"), "ask");
    assert_eq!(decide(&rules, "b.example"), "ask");
    let previous = previous(&rules, "a.example").unwrap();
    assert_eq!(previous.seconds, Some(1));
}

#[tokio::test]
async fn answers_are_no_longer_than_the_organisation_permits() {
    let rules = start_with(DialedPolicy {
        longest_answer: LongestAnswer::Seconds(300),
        ..DialedPolicy::default()
    });
    assert_eq!(
        rules.offered_scopes().lifetimes,
        [RuleLifetime::Once, RuleLifetime::Sandbox]
    );
    let outcome = rules
        .enforce(claim("a.example", Action::Allow, |_| {}))
        .await;
    assert!(!outcome.is_applied());
    let short = |scope: &mut Scope| scope.seconds = Some(300);
    let outcome = rules
        .enforce(claim("a.example", Action::Allow, short))
        .await;
    assert!(outcome.is_applied());
    assert!(rules.bypass(60, &"me".into()).is_err());
}

#[tokio::test]
async fn an_explanation_names_the_deciding_rule_and_the_others() {
    let rules = start_with(DialedPolicy {
        rules: rules_of(&[
            ("*.example", Action::Allow, RuleOrigin::Flag),
            ("a.example", Action::Deny, RuleOrigin::Always),
            ("a.example:443", Action::Allow, RuleOrigin::Flag),
        ]),
        ..DialedPolicy::default()
    });
    let explain = |dest: &str| {
        let asked = ExplainParameters {
            dest: dest.into(),
            port: None,
            protocol: None,
        };
        rules.explain(&asked).unwrap()
    };
    let explained = explain("a.example");
    assert_eq!(explained.verdict, ExplainVerdict::Deny);
    assert_eq!(explained.rule.unwrap().rule.as_str(), "r2");
    let others: Vec<_> = explained
        .others
        .iter()
        .map(|rule| rule.rule.as_str())
        .collect();
    assert_eq!(others, ["r3", "r1"]);
    assert_eq!(explain("b.test").verdict, ExplainVerdict::Ask);
    assert_eq!(explain("169.254.169.254").verdict, ExplainVerdict::Floor);
}

fn earlier(pattern: &str, zone: NetworkZone, keep: RuleLifetime) -> EarlierAnswer {
    EarlierAnswer {
        pattern: pattern.parse().unwrap(),
        zone,
        answer: Arc::new(PreviousAnswer {
            action: Action::Allow,
            by: DisplayText::new(pattern),
            at: Timestamp::from_micros(1),
            keep,
            seconds: None,
            revoked: false,
        }),
    }
}

#[tokio::test]
async fn a_question_says_how_an_earlier_run_answered() {
    use RuleLifetime::{Once, Project, Sandbox};
    let public = NetworkZone::Public;
    let files = Arc::new(MemoryFiles::default());
    let kept = KeptRule {
        action: Action::Allow,
        pattern: "kept.example:443/tcp".parse().unwrap(),
    };
    files.keep(KeptPlace::Project, &kept, "").unwrap();
    let rules = start_with(DialedPolicy {
        kept: Some(files),
        earlier: vec![
            earlier("*.example:443/tcp", public, Sandbox),
            earlier("a.example:443/tcp", public, Once),
            earlier("b.test:443/tcp", public, Once),
            earlier("nas.test:443/tcp", NetworkZone::LocalNetwork, Once),
            earlier("kept.test:443/tcp", public, Project),
        ],
        ..DialedPolicy::default()
    });
    let by = |name: &str| previous(&rules, name).map(|answer| answer.by.to_string());
    // The newest that covers the destination counts, and only for the part of the network.
    assert_eq!(by("a.example").as_deref(), Some("*.example:443/tcp"));
    assert_eq!(by("b.test").as_deref(), Some("b.test:443/tcp"));
    assert_eq!(by("c.test"), None);
    assert_eq!(by("nas.test"), None);
    let at_home = rules.previous_answer(&dest("nas.test"), DestZone::LocalNetwork);
    assert!(at_home.is_some());
    assert_eq!(by("kept.test").as_deref(), Some("kept.test:443/tcp"));
    // An earlier answer decides nothing, and one of this run comes first.
    assert_eq!(decide(&rules, "b.test"), "ask");
    let outcome = rules.enforce(claim("b.test", Action::Deny, |_| {})).await;
    assert!(outcome.is_applied());
    assert_eq!(decide(&rules, "b.test"), "deny");
    rules.revoke(&"web:1".into(), &"me".into()).await.unwrap();
    let answer = previous(&rules, "b.test").unwrap();
    assert_eq!((answer.action, answer.revoked), (Action::Deny, true));
}

#[tokio::test]
async fn a_kept_answer_that_is_in_force_is_no_previous_one() {
    let files = Arc::new(MemoryFiles::default());
    let pattern: DestPattern = "a.example:443/tcp".parse().unwrap();
    let kept = KeptRule {
        action: Action::Allow,
        pattern,
    };
    files.keep(KeptPlace::Always, &kept, "").unwrap();
    let rules = start_with(DialedPolicy {
        kept: Some(Arc::<MemoryFiles>::clone(&files)),
        earlier: vec![earlier(
            "a.example:443/tcp",
            NetworkZone::Public,
            RuleLifetime::Always,
        )],
        ..DialedPolicy::default()
    });
    assert!(previous(&rules, "a.example").is_none());
    let name = rules.list_rules()[0].rule.clone();
    rules.revoke(&name, &"me".into()).await.unwrap();
    assert!(previous(&rules, "a.example").is_some());
}
