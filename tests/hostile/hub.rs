// SPDX-License-Identifier: Apache-2.0
//! What a hub says whose sandboxes put a text wherever they, or their files, may: every question,
//! event and refusal, over both interfaces. Included with `#[path]` by the tests of each UI.

use serde_json::{Value, json};

/// The places for a text in a question: one question has one of them.
pub(crate) const PLACES: &[&str] = &[
    "dest",
    "dest without a port",
    "address",
    "process",
    "command",
    "directory",
    "parent",
    "looked up as",
    "project",
    "task",
    "name",
    "container_name",
    "known",
    "key",
    "all",
];

/// The sandbox whose start is the last thing that is said.
pub(crate) const LAST: &str = "the-last-one";

/// Returns the number of the question that has text number `text` in a place.
pub(crate) fn number(text: usize, place: &str) -> usize {
    let at = PLACES.iter().position(|known| *known == place);
    text * PLACES.len() + at.unwrap_or_else(|| unreachable!("there is no place {place}")) + 1
}

/// Returns the text and the place of a question.
pub(crate) fn place_of(number: usize) -> (usize, &'static str) {
    let at = number - 1;
    (at / PLACES.len(), PLACES[at % PLACES.len()])
}

/// Returns the sandbox that asks: one for each question, so that no two are the same.
pub(crate) fn sandbox(number: usize) -> String {
    format!("web{number}")
}

/// Returns a question's id.
pub(crate) fn id(number: usize) -> String {
    format!("{}:{number}", sandbox(number))
}

/// Returns the destination of a question whose place is another.
pub(crate) fn host(number: usize) -> String {
    format!("host{number}.example")
}

/// Returns question `number` with `text` in its place, as a hub of `org.terok.Clearance2` has it.
pub(crate) fn question(number: usize, text: &str) -> Value {
    let (_, place) = place_of(number);
    let all = place == "all";
    let at = |here: &str, usual: &str| {
        let here = place == here || all;
        Value::from(if here { text } else { usual })
    };
    let named = host(number);
    let dest = if place == "dest without a port" {
        at(place, "")
    } else {
        at("dest", &named)
    };
    let (dest, domain, address) = match place {
        "address" => (Value::from(text), Value::Null, Value::from(text)),
        // What nobody can be asked about is not asked.
        "all" if text.is_empty() => (named.clone().into(), named.into(), "203.0.113.7".into()),
        _ => (dest.clone(), dest, "203.0.113.7".into()),
    };
    let (port, protocol) = match place {
        "dest without a port" => (0, "icmp"),
        _ => (number, "tcp"),
    };
    let mut dossier = json!({
        "project": at("project", "warp"), "task": at("task", "build"), "name": at("name", "web"),
        "container_name": at("container_name", "web-1"), "known": at("known", "as"),
    });
    match place {
        // It is the name where there is no other.
        "container_name" => dossier = json!({"container_name": text}),
        "key" => dossier = json!({text: text}),
        _ => {}
    }
    let mut process = json!({
        "pid": 7, "uid": 1000, "name": at("process", "curl"),
        "command": [at("command", "curl"), at("command", "-v")],
    });
    // Not in `all`, whose events must fit the buffer of a socket with the longest text, too.
    if ["directory", "parent"].contains(&place) {
        process["directory"] = at("directory", "/home/u");
        process["parents"] = json!([
            {"pid": 5, "name": at("parent", "bash")},
            {"pid": 1, "name": at("parent", "node")},
        ]);
        process["other_holders"] = 1.into();
    }
    // A name is never empty.
    let leads = place == "looked up as" && !text.is_empty();
    json!({
        "id": id(number), "container": sandbox(number), "dest": dest, "address": address,
        "port": port, "protocol": protocol, "domain": domain,
        "scope": {
            "dest": dest, "port": (port > 0).then_some(port), "protocol": protocol,
            "keep": "sandbox",
        },
        "process": process, "looked_up_as": leads.then_some(text),
        "zone": leads.then_some("local-network"), "waiting": leads.then_some(2),
        "waiting_since": leads.then_some(number), "gave_up_after": leads.then_some(15),
        "dossier": dossier, "first_seen": number, "last_seen": number, "count": 1,
    })
}

/// Returns all questions, each text in each place.
pub(crate) fn questions(texts: &[String]) -> Vec<Value> {
    let numbered = |(at, text): (usize, &String)| {
        let of = |place: &&str| question(number(at, place), text);
        PLACES.iter().map(of).collect::<Vec<_>>()
    };
    texts.iter().enumerate().flat_map(numbered).collect()
}

/// Returns the record of an answer to a question that an event or a refusal tells, with the text
/// wherever there may be one.
pub(crate) fn decision(question: &Value, text: &str, ok: bool) -> Value {
    json!({
        "request": question["id"], "container": question["container"], "dest": question["dest"],
        "action": "deny", "scope": question["scope"], "by": text, "at": 5, "ok": ok, "reason": text,
    })
}

/// Returns everything that a hub of `org.terok.Clearance2` may say: all questions, that these were
/// all, and what becomes of some of them and of sandboxes.
pub(crate) fn events(texts: &[String]) -> Vec<Value> {
    let asked = questions(texts);
    let pending = |question: &Value| json!({"kind": "pending", "request": question});
    let mut events: Vec<_> = asked.iter().map(pending).collect();
    events.push(json!({"kind": "synced"}));
    for (at, text) in texts.iter().enumerate() {
        let of = |place: &str| &asked[number(at, place) - 1];
        events.extend([
            json!({"kind": "repeated", "request": of("process")}),
            json!({"kind": "decided", "decision": decision(of("name"), text, false)}),
            json!({"kind": "decided", "decision": decision(of("known"), text, true)}),
            json!({"kind": "decided", "decision": decision(of("dest"), text, true)}),
            json!({"kind": "withdrawn", "request": of("key"), "reason": text}),
            json!({"kind": "withdrawn", "request": of("address"), "reason": "exited"}),
            json!({"kind": "container", "container": format!("box{at}"), "state": "started"}),
            json!({
                "kind": "container", "container": format!("box{at}"), "state": "exited",
                "reason": text,
            }),
            json!({"kind": "shield", "container": format!("box{at}"), "state": "down"}),
            json!({"kind": "shield", "container": format!("box{at}"), "state": "up"}),
            json!({"kind": "lost", "lost": 3, "reason": text}),
            // These are none.
            json!({"kind": text, "container": text, "reason": text}),
            json!({"kind": "container", "container": text, "state": "started"}),
            json!({"kind": "container", "container": "web", "state": text, "reason": text}),
            json!({"kind": "shield", "container": "web", "state": text}),
            json!({"kind": "shield", "container": text, "state": "up"}),
        ]);
    }
    events.push(json!({"kind": "container", "container": LAST, "state": "started"}));
    for (seq, event) in events.iter_mut().enumerate() {
        event["seq"] = seq.into();
    }
    events
}

/// Returns what a hub of `org.terok.Clearance1` says that takes over whatever it hears, as those
/// of up to 0.6.6 do.
pub(crate) fn older_events(texts: &[String]) -> Vec<Value> {
    let event = |kind: &str, container: &str| {
        json!({
            "type": kind, "container": container, "request_id": "", "dest": "", "port": 0,
            "proto": 0, "domain": "", "action": "", "ok": false, "reason": "", "dossier": {},
        })
    };
    let mut events = Vec::new();
    for question in questions(texts) {
        let mut blocked = event("connection_blocked", "");
        blocked["container"] = question["container"].clone();
        blocked["request_id"] = question["id"].clone();
        blocked["dest"] = question["address"].clone();
        blocked["port"] = question["port"].clone();
        blocked["proto"] = if question["port"] == 0 { 1 } else { 6 }.into();
        blocked["domain"] = question["domain"].as_str().unwrap_or_default().into();
        blocked["dossier"] = question["dossier"].clone();
        events.push(blocked);
    }
    for (at, text) in texts.iter().enumerate() {
        for ok in [false, true] {
            let known = number(at, "known");
            let mut applied = event("verdict_applied", &sandbox(known));
            applied["request_id"] = id(known).into();
            applied["action"] = "deny".into();
            applied["ok"] = ok.into();
            applied["reason"] = text.as_str().into();
            events.push(applied);
        }
        let mut exited = event("container_exited", &format!("box{at}"));
        exited["reason"] = text.as_str().into();
        events.extend([exited, event("shield_down", &format!("box{at}"))]);
        events.extend([event(text, text), event("container_started", text)]);
    }
    events.push(event("container_started", LAST));
    events
}

/// Returns a frame of a stream.
pub(crate) fn frame(event: &Value) -> String {
    format!(
        "{}\0",
        json!({"parameters": {"event": event}, "continues": true})
    )
}

/// Returns how a hub replies to an answer to question `number`, in each way that there is.
pub(crate) fn reply(number: usize, text: &str) -> Value {
    let question = question(number, text);
    let error = |name: &str, parameters: Value| json!({"error": format!("org.terok.Clearance2.{name}"), "parameters": parameters});
    match place_of(number).1 {
        "process" => error(
            "EnforcementFailed",
            json!({"request": question["id"], "reason": text}),
        ),
        "command" => error(
            "AlreadyDecided",
            json!({"decision": decision(&question, text, true)}),
        ),
        "project" => error(
            "NotWhatWasAsked",
            json!({"request": question["id"], "field": text, "asked": text, "got": text}),
        ),
        "task" => json!({"error": text, "parameters": {text: text}}),
        "container_name" => json!({
            "parameters": {"decision": decision(&question, text, false)},
        }),
        _ => error(
            "NoSuchRequest",
            json!({"request": question["id"], "why": text}),
        ),
    }
}

/// The places of the questions that are answered, whose destinations are nobody's choice: one for
/// each reply.
pub(crate) const ANSWERED: &[&str] = &[
    "process",
    "command",
    "project",
    "task",
    "container_name",
    "name",
];

/// The same of an older hub.
pub(crate) fn older_reply(number: usize, text: &str) -> Value {
    let error = |name: &str, parameters: Value| json!({"error": format!("org.terok.Clearance1.{name}"), "parameters": parameters});
    match place_of(number).1 {
        "process" => error("ShieldCliFailed", json!({"action": text, "stderr": text})),
        "command" => error(
            "VerdictTupleMismatch",
            json!({
                "expected_container": text, "expected_dest": text, "got_container": text,
                "got_dest": text,
            }),
        ),
        "project" => error("InvalidAction", json!({"action": text})),
        "task" => json!({"error": text, "parameters": {text: text}}),
        _ => error("UnknownRequest", json!({"request_id": text})),
    }
}
