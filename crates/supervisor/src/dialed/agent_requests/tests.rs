// SPDX-License-Identifier: Apache-2.0
//! Tests of the service with a real hub, and a task in place of the engine.

use terok_clearance::{
    Action, BlockedPacket, Dest, Dossier, NetworkZone, SandboxEvent, Scope, Timestamp,
};

use super::*;
use crate::dialed::kept::DialedPolicy;
use crate::sandbox_service::SandboxService;
use egress::EgressPolicy as _;
use hub::ledger::{QuestionTriple, RequestedScope};
use policy::{RuleSpec, RuleTerm};
use terok_clearance::DestZone;

/// A service whose engine decides by the rules of the hub, and reports questions to it.
struct ServedSandbox {
    service: Arc<RequestService>,
    hub: Arc<Hub<DialedRules>>,
    engine: tokio::task::JoinSet<()>,
}

fn rule(pattern: &str, action: Action, origin: RuleOrigin) -> RuleSpec {
    RuleSpec {
        pattern: pattern.parse().unwrap(),
        action,
        term: RuleTerm::Run,
        origin,
        by: DisplayText::default(),
        since: Timestamp::UNIX_EPOCH,
    }
}

impl ServedSandbox {
    fn start() -> Self {
        let policy = DialedPolicy {
            rules: vec![
                rule("open.test", Action::Allow, RuleOrigin::Flag),
                rule("shut.test", Action::Deny, RuleOrigin::Flag),
                rule("org.test", Action::Deny, RuleOrigin::Organisation),
            ],
            ..DialedPolicy::default()
        };
        let rules = DialedRules::new(policy, Arc::default(), None).unwrap();
        let hub = SandboxService::create_hub(rules.clone(), None);
        let (queries, mut received) = mpsc::channel::<AheadQuery>(MAX_WAITING_QUERIES);
        let mut engine = tokio::task::JoinSet::new();
        engine.spawn({
            let (hub, rules) = (Arc::clone(&hub), rules.clone());
            async move {
                let mut number = 0;
                while let Some(query) = received.recv().await {
                    number += 1;
                    let verdict = rules.decide(&query.dest, DestZone::Public);
                    let request = (verdict == EgressVerdict::Ask && query.reason.is_some())
                        .then(|| report(&hub, &query, number));
                    let answer = AheadAnswer {
                        dest: query.dest,
                        verdict,
                        request,
                    };
                    drop(query.reply.send(answer));
                }
            }
        });
        let service = RequestService::new(Arc::clone(&hub), rules, Some(queries));
        Self {
            service: Arc::new(service),
            hub,
            engine,
        }
    }

    async fn request(&self, name: &str) -> AskedReply {
        let reason = "to test".into();
        self.service.request(&named(name), &reason).await
    }

    async fn answer(&self, id: &DisplayText, action: Action) {
        let question = self
            .hub
            .pending_request(&id.as_str().parse().unwrap())
            .unwrap();
        let asked = QuestionTriple {
            request: id.as_str(),
            container: question.container.as_str(),
            dest: question.dest.as_str(),
        };
        let by = "test".into();
        let decided = self.hub.decide(asked, action, RequestedScope::Default, by);
        assert!(decided.await.unwrap().ok);
    }
}

impl Drop for ServedSandbox {
    fn drop(&mut self) {
        self.engine.abort_all();
    }
}

/// Reports a question as the engine's sink does.
fn report(hub: &Hub<DialedRules>, query: &AheadQuery, number: u32) -> RequestId {
    let request: RequestId = format!("web:{number}").parse().unwrap();
    let PacketHost::Name(name) = &query.dest.host else {
        panic!("{query:?}")
    };
    hub.report(SandboxEvent::Blocked(BlockedPacket {
        container: "web".parse().unwrap(),
        request: request.clone(),
        address: Dest::from(name),
        port: query.dest.port,
        protocol: query.dest.protocol,
        domain: None,
        dossier: Dossier::default(),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: query.reason.clone(),
    }));
    request
}

fn named(dest: &str) -> RequestedDest {
    RequestedDest {
        dest: dest.to_owned(),
        port: None,
        protocol: None,
    }
}

#[tokio::test]
async fn rules_decide_without_a_question() {
    let service = ServedSandbox::start();
    for (name, state, words) in [
        ("open.test", RequestState::Allowed, "are allowed"),
        ("shut.test", RequestState::Denied, "a rule of the operator"),
        (
            "org.test",
            RequestState::Denied,
            "policy of the operator's organisation",
        ),
    ] {
        let AskedReply { id, reply } = service.request(name).await;
        assert_eq!((id, reply.state), (None, state), "{name}");
        assert!(reply.text.as_str().contains(words), "{}", reply.text);
    }
    assert_eq!(service.hub.pending_count(), 0);
}

#[tokio::test]
async fn a_destination_is_one_question_with_its_first_reason() {
    let service = ServedSandbox::start();
    let first = service.request("a.test").await;
    let id = first.id.clone().unwrap();
    assert_eq!(first.reply.state, RequestState::Pending);
    assert_eq!(service.request("A.test").await.id.as_ref(), Some(&id));
    let question = service
        .hub
        .pending_request(&id.as_str().parse().unwrap())
        .unwrap();
    assert_eq!(
        (question.reason, question.count),
        (Some("to test".into()), 1)
    );
    assert_eq!(
        question.scope,
        Scope {
            port: Some(443),
            ..question.scope.clone()
        }
    );
}

#[tokio::test]
async fn a_wait_ends_with_the_answer_and_tells_it() {
    for (action, state) in [
        (Action::Allow, RequestState::Allowed),
        (Action::Deny, RequestState::Denied),
    ] {
        let service = ServedSandbox::start();
        let id = service.request("a.test").await.id.unwrap();
        let waited = tokio::join!(
            service.service.wait(&id, Duration::from_secs(60)),
            service.answer(&id, action),
        );
        assert_eq!(waited.0.unwrap().state, state);
        assert_eq!(service.service.status(&id).await.unwrap().state, state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_an_end_and_a_dismissed_question_is_told() {
    let service = ServedSandbox::start();
    let id = service.request("a.test").await.id.unwrap();
    let waited = service.service.wait(&id, Duration::from_secs(30)).await;
    assert_eq!(waited.unwrap().state, RequestState::Pending);
    let asked = QuestionTriple {
        request: id.as_str(),
        container: "web",
        dest: "a.test",
    };
    service.hub.dismiss(asked, "test".into()).unwrap();
    let waited = service.service.wait(&id, Duration::from_secs(30)).await;
    let reply = waited.unwrap();
    assert_eq!(reply.state, RequestState::Refused);
    assert!(reply.text.as_str().contains("has ended"), "{}", reply.text);
}

#[tokio::test]
async fn unusable_destinations_reach_nobody() {
    let service = ServedSandbox::start();
    let with = |dest: &str, port, protocol| RequestedDest {
        dest: dest.to_owned(),
        port,
        protocol,
    };
    for dest in [
        with("", None, None),
        with("*.example.com", None, None),
        with("10.0.0.0/8", None, None),
        with("a.test:80", None, None),
        with("a.test", Some(0), None),
        with("a.test", Some(1), Some(Protocol::SCTP)),
        with("a\u{1b}[2J.test", None, None),
        with(&"a.".repeat(500), None, None),
    ] {
        let reply = service.service.request(&dest, &"x".into()).await;
        assert_eq!(reply.reply.state, RequestState::Refused, "{dest:?}");
        assert_eq!(reply.id, None);
    }
    let silent = service.service.request(&named("a.test"), &"".into()).await;
    assert_eq!(silent.reply.state, RequestState::Refused);
    assert_eq!(service.hub.pending_count(), 0);
    assert_eq!(service.service.status(&"web:1".into()).await, None);
}

#[tokio::test]
async fn the_limits_hold_for_many_destinations() {
    let service = ServedSandbox::start();
    let mut states = Vec::new();
    for number in 0..200 {
        states.push(
            service
                .request(&format!("h{number}.test"))
                .await
                .reply
                .state,
        );
    }
    let pending = states
        .iter()
        .filter(|state| **state == RequestState::Pending)
        .count();
    assert!((30..=32).contains(&pending), "{pending}");
    assert_eq!(service.hub.pending_count(), pending);
}
