// SPDX-License-Identifier: Apache-2.0
//! Tests of the rules of a namespace that has its own connection: they are listed, end at their
//! times or by revocation, and take the connections with them that they opened.
#![expect(clippy::unwrap_used, reason = "a test")]

mod attacks;
mod journaled;
mod record;
mod start_rules;

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use names::{LookupFailure, NameLookup, Record, RecordType};
use netns_tests::guarded::{Guarded, Operator, connect};
use netns_tests::internet::tcp;
use supervisor::{HoldLimit, NameAccess, NameServerConfig, SandboxLookup};
use terok_clearance::wire::clearance2::{
    ExplainParameters, ExplainVerdict, ListedRule, Request, RevokeReply,
};
use terok_clearance::{
    Action, Decision, DecisionAction, DomainName, NetworkZone, RuleLifetime, Scope,
};

const LONG: HoldLimit = HoldLimit::For(Duration::from_secs(60));
const SERVER: &str = "203.0.113.7";

/// Every name leads to the server.
#[derive(Debug)]
struct OneAddress;

impl NameLookup for OneAddress {
    async fn lookup_addresses(&self, _name: &DomainName) -> Result<Vec<IpAddr>, LookupFailure> {
        Ok(vec![SERVER.parse().unwrap()])
    }

    async fn lookup_records(
        &self,
        _name: &DomainName,
        _record_type: RecordType,
    ) -> Result<Vec<Record>, LookupFailure> {
        Err(LookupFailure::NoData)
    }
}

fn names() -> NameAccess {
    NameAccess::Server(NameServerConfig {
        resolvers: Vec::new(),
        lookup: SandboxLookup::new(OneAddress),
        stand_in_key: [7; 16].into(),
    })
}

fn start() -> Guarded {
    Guarded::start_with(LONG, &names)
}

/// Returns the stand-in of a name, for [`connect`] and [`tcp`].
async fn stand_in(name: &'static str) -> &'static str {
    let asked = tokio::task::spawn_blocking(move || {
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label.bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket.send_to(&query, "198.51.100.53:53").unwrap();
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply).unwrap();
        let address: [u8; 4] = reply[length - 4..length].try_into().unwrap();
        IpAddr::from(address).to_string()
    });
    Box::leak(asked.await.unwrap().into_boxed_str())
}

/// Connects in a thread, after which the greeting has come.
async fn open(at: &'static str, port: u16) -> TcpStream {
    let opened = tokio::task::spawn_blocking(move || tcp(at, port));
    opened.await.unwrap().unwrap()
}

/// Asks about a destination by a connection that is allowed, and returns the decision.
async fn allow(
    operator: &mut Operator,
    at: &'static str,
    port: u16,
    scope: impl Fn(&Request) -> Option<Scope>,
) -> Decision {
    let waiting = connect(at, port);
    let request = operator.question().await;
    let scope = scope(&request);
    let answered = operator
        .client
        .decide(&request, DecisionAction::Allow, scope);
    let decision = answered.await.unwrap();
    assert!(decision.ok);
    waiting.await.unwrap().0.unwrap();
    decision
}

/// Returns `true` if the connection carries a byte there and back.
async fn carries(stream: &TcpStream) -> bool {
    let mut stream = stream.try_clone().unwrap();
    let echoed = tokio::task::spawn_blocking(move || {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    });
    echoed.await.unwrap().is_ok()
}

/// Waits for the end of a connection, which nothing is sent over.
async fn ended(stream: TcpStream) -> io::Error {
    let read = tokio::task::spawn_blocking(move || (&stream).read(&mut [0; 16]));
    read.await.unwrap().unwrap_err()
}

async fn rules(operator: &Operator) -> Vec<ListedRule> {
    operator.client.rules().await.unwrap()
}

async fn revoke(operator: &Operator, rule: &str) -> RevokeReply {
    operator.client.revoke(rule.into()).await.unwrap()
}

fn describe(rule: &ListedRule) -> String {
    let ListedRule {
        rule,
        action,
        dest,
        origin,
        open,
        ..
    } = rule;
    format!("{rule} {action} {dest} {origin} {open}")
}

fn describe_all(rules: &[ListedRule]) -> Vec<String> {
    rules.iter().map(describe).collect()
}

/// Returns nft's listing of all sets, in which orders are elements.
fn ruleset() -> String {
    let output = Command::new("nft")
        .args(["list", "ruleset"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_answer_is_a_rule_that_is_listed_and_revoked_with_its_connections() {
    let mut guarded = Guarded::start_with(LONG, &names);
    guarded.end().await;
    guarded.supervise(LONG, names(), &["other.test:443"]);
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("plain.test").await;
    let decision = allow(&mut operator, at, 443, |_| None).await;
    let (one, two) = (open(at, 443).await, open(at, 443).await);
    let other = open(stand_in("other.test").await, 443).await;

    let listed = rules(&operator).await;
    assert_eq!(
        describe_all(&listed),
        [
            "r1 allow other.test:443 flag 1",
            "r2 allow plain.test:443/tcp decision 2",
        ]
    );
    assert_eq!(
        listed[1].origin_name.as_ref().unwrap().as_str(),
        decision.request.as_str()
    );
    assert!(listed[1].by.as_str().starts_with("uid "), "{listed:?}");
    assert_eq!(
        (listed[1].keep, listed[1].seconds_left),
        (RuleLifetime::Sandbox, None)
    );

    let reply = revoke(&operator, "r2").await;
    assert_eq!(reply.ended, 2);
    assert_eq!(
        describe_all(&reply.rules),
        ["r2 allow plain.test:443/tcp decision 2"]
    );
    assert!(!ruleset().contains("plain.test"), "{}", ruleset());
    assert!(ruleset().contains("other.test"), "{}", ruleset());
    for stream in [one, two] {
        assert_eq!(ended(stream).await.kind(), io::ErrorKind::ConnectionAborted);
    }
    assert!(carries(&other).await);
    assert_eq!(
        describe_all(&rules(&operator).await),
        ["r1 allow other.test:443 flag 1"]
    );
    let error = operator.client.revoke("r2".into()).await.unwrap_err();
    assert!(error.to_string().contains("no rule r2"), "{error}");

    // The next connection asks again, and the answer is revoked by the id of its question.
    let decision = allow(&mut operator, at, 443, |_| None).await;
    let stream = open(at, 443).await;
    assert_eq!(revoke(&operator, decision.request.as_str()).await.ended, 1);
    ended(stream).await;
}

#[tokio::test]
async fn the_connections_of_an_address_end_with_its_rule_over_both_families() {
    let guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    for (at, port, rule) in [("203.0.113.7", 80, "r1"), ("2001:db8:1::7", 443, "r2")] {
        allow(&mut operator, at, port, |_| None).await;
        let stream = open(at, port).await;
        assert_eq!(revoke(&operator, rule).await.ended, 1, "{at}");
        ended(stream).await;
    }
}

#[tokio::test]
async fn a_changed_answer_ends_the_connections_of_the_earlier_one() {
    let guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("plain.test").await;
    let decision = allow(&mut operator, at, 443, |_| None).await;
    let stream = open(at, 443).await;
    let changed = operator
        .client
        .change_decision(&decision, Action::Deny, None);
    assert!(changed.await.unwrap().ok);
    assert_eq!(
        describe_all(&rules(&operator).await),
        ["r2 deny plain.test:443/tcp decision 0"]
    );
    ended(stream).await;
    // And back.
    let changed = operator
        .client
        .change_decision(&decision, Action::Allow, None);
    assert!(changed.await.unwrap().ok);
    assert!(carries(&open(at, 443).await).await);
}

#[tokio::test]
async fn a_denied_address_ends_the_connections_of_names_to_it() {
    let guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("plain.test").await;
    allow(&mut operator, at, 443, |_| None).await;
    let stream = open(at, 443).await;
    let waiting = connect(SERVER, 443);
    let request = operator.question().await;
    assert!(carries(&stream).await);
    operator.answer(&request, DecisionAction::Deny).await;
    assert!(waiting.await.unwrap().0.is_err());
    ended(stream).await;
}

fn for_seconds(keep: RuleLifetime, seconds: u32) -> impl Fn(&Request) -> Option<Scope> {
    move |request| {
        Some(Scope {
            keep,
            seconds: Some(seconds),
            ..request.scope.clone()
        })
    }
}

#[tokio::test]
async fn a_connection_ends_with_the_time_of_its_rule() {
    let guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("plain.test").await;
    allow(
        &mut operator,
        at,
        443,
        for_seconds(RuleLifetime::Sandbox, 4),
    )
    .await;
    let stream = open(at, 443).await;
    let listed = rules(&operator).await;
    assert!(matches!(listed[0].seconds_left, Some(1..=4)), "{listed:?}");
    let error = ended(stream).await;
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
    assert_eq!(rules(&operator).await, []);
    assert!(!ruleset().contains("plain.test"), "{}", ruleset());
}

#[tokio::test]
async fn the_connection_of_a_rule_for_one_goes_on_after_its_time_until_it_is_revoked() {
    let guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("plain.test").await;
    allow(&mut operator, at, 443, for_seconds(RuleLifetime::Once, 4)).await;
    let stream = open(at, 443).await;
    // A timed rule that ends later: by then the other one is over, too.
    let other = stand_in("other.test").await;
    allow(
        &mut operator,
        other,
        443,
        for_seconds(RuleLifetime::Sandbox, 5),
    )
    .await;
    ended(open(other, 443).await).await;
    assert!(carries(&stream).await);
    let listed = rules(&operator).await;
    assert_eq!(
        describe_all(&listed),
        ["r1 allow plain.test:443/tcp decision 1"]
    );
    assert!(listed[0].spent && listed[0].keep == RuleLifetime::Once);
    assert!(!ruleset().contains("plain.test"), "{}", ruleset());
    assert_eq!(revoke(&operator, "r1").await.ended, 1);
    ended(stream).await;
}

#[tokio::test]
async fn what_another_rule_allows_goes_on() {
    let mut guarded = start();
    guarded.end().await;
    guarded.supervise(LONG, names(), &["plain.test", "plain.test:443"]);
    let operator = Operator::connect(&guarded).await;
    let at = stand_in("plain.test").await;
    let (web, other) = (open(at, 443).await, open(at, 80).await);
    assert_eq!(revoke(&operator, "r2").await.ended, 0);
    assert!(carries(&web).await && carries(&other).await);
    assert_eq!(revoke(&operator, "r1").await.ended, 2);
    ended(web).await;
    ended(other).await;
}

#[tokio::test]
async fn a_restarted_supervisor_lists_the_orders_and_ends_what_no_rule_allows() {
    let mut guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    let (kept, timed) = (stand_in("kept.test").await, stand_in("timed.test").await);
    allow(&mut operator, kept, 443, |_| None).await;
    allow(
        &mut operator,
        timed,
        443,
        for_seconds(RuleLifetime::Sandbox, 3),
    )
    .await;
    let (stays, ends) = (open(kept, 443).await, open(timed, 443).await);
    guarded.end().await;
    // The kernel drops the element while there is no supervisor.
    let gone = tokio::task::spawn_blocking(|| {
        while ruleset().contains("timed.test") {
            std::thread::yield_now();
        }
    });
    gone.await.unwrap();
    assert!(carries(&ends).await);
    guarded.supervise(LONG, names(), &["flag.test:443"]);
    ended(ends).await;
    assert!(carries(&stays).await);
    let operator = Operator::connect(&guarded).await;
    let listed = rules(&operator).await;
    assert_eq!(
        describe_all(&listed),
        [
            "r1 allow kept.test:443/tcp decision 1",
            "r2 allow flag.test:443 flag 0",
        ]
    );
    assert_eq!(listed[0].origin_name, None);
    assert_eq!(revoke(&operator, "r1").await.ended, 1);
    ended(stays).await;

    // The same option again is the same rule.
    guarded.end().await;
    guarded.supervise(LONG, names(), &["flag.test:443"]);
    let operator = Operator::connect(&guarded).await;
    assert_eq!(
        describe_all(&rules(&operator).await),
        ["r2 allow flag.test:443 flag 0"]
    );
}

#[tokio::test]
async fn explain_says_what_the_firewall_does() {
    let mut guarded = start();
    guarded.end().await;
    guarded.supervise(LONG, names(), &["plain.test:443"]);
    let mut operator = Operator::connect(&guarded).await;
    let waiting = connect("203.0.113.80", 80);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Deny).await;
    assert!(waiting.await.unwrap().0.is_err());
    for (dest, port, verdict, rule) in [
        (
            "plain.test",
            443,
            ExplainVerdict::Allow,
            Some((Action::Allow, "r1")),
        ),
        ("plain.test", 80, ExplainVerdict::Ask, None),
        (SERVER, 443, ExplainVerdict::Ask, None),
        (
            "203.0.113.80",
            80,
            ExplainVerdict::Deny,
            Some((Action::Deny, "r2")),
        ),
        ("192.168.1.1", 443, ExplainVerdict::Floor, None),
        ("169.254.169.254", 80, ExplainVerdict::Floor, None),
    ] {
        let parameters = ExplainParameters {
            dest: dest.into(),
            port: Some(port),
            protocol: None,
        };
        let reply = operator.client.explain(&parameters).await.unwrap();
        let found = reply
            .rule
            .as_ref()
            .map(|one| (one.action, one.rule.as_str()));
        assert_eq!((reply.verdict, found), (verdict, rule), "{dest} {port}");
        let is_local = reply.zone == NetworkZone::LocalNetwork;
        assert_eq!(is_local, dest == "192.168.1.1", "{dest}");
    }
}
