// SPDX-License-Identifier: Apache-2.0
//! `terok-clearance-hub`: each release's own and ours by that name, told the same, side by side.

use std::path::Path;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::harness::{Place, Running, Stack, pending};

/// What is said to both programs, and what must be the same.
struct Case {
    args: &'static [&'static str],
    /// What is typed.
    input: &'static str,
    same: Same,
}

enum Same {
    /// The status, and every byte of standard output.
    Output(i32),
    /// The status, and that standard output has the help, each in its own words.
    Help(i32),
    /// The status 2, and that standard error alone says why.
    Usage,
    /// Nothing: their status, ours, and the reason.
    Differs(i32, i32, &'static str),
}

use Same::{Differs, Help, Output, Usage};

const fn case(args: &'static [&'static str], same: Same) -> Case {
    let input = "";
    Case { args, input, same }
}

const fn typed(input: &'static str, same: Same) -> Case {
    let args = &["clearance"];
    Case { args, input, same }
}

const CASES: &[Case] = &[
    case(&[], Help(2)),
    case(&["-h"], Help(0)),
    case(&["--help"], Help(0)),
    case(&["notify", "-h"], Help(0)),
    case(&["serve", "-h"], Help(0)),
    case(&["serve-verdict", "-h"], Help(0)),
    case(&["clearance", "-h"], Help(0)),
    case(&["bogus"], Usage),
    // No verb can be cut short, options can.
    case(&["noti", "Title"], Usage),
    case(&["notify", "--time", "5", "Title"], Output(0)),
    case(&["--nonsense"], Usage),
    case(&["serve", "now"], Usage),
    case(&["serve-verdict", "now"], Usage),
    case(&["clearance", "now"], Usage),
    // Of releases up to 0.6; this program has it still, without this option.
    case(&["install-service", "--nonsense"], Usage),
    case(&["notify"], Usage),
    // Without a session bus: 0, and a good end.
    case(&["notify", "Title"], Output(0)),
    case(&["notify", "Title", "Body"], Output(0)),
    case(&["notify", "Title", "Body", "-t", "500"], Output(0)),
    case(&["notify", "-t500", "Title"], Output(0)),
    case(&["notify", "--timeout=7", "Title", "Body"], Output(0)),
    case(&["notify", "-t", "-5", "Title"], Output(0)),
    case(&["notify", "--", "-x"], Output(0)),
    case(&["notify", ""], Output(0)),
    case(&["notify", "Title", "-t", "soon"], Usage),
    case(&["notify", "Title", "Body", "Else"], Usage),
    typed("", Output(0)),
    typed("q\n", Output(0)),
    typed("  QUIT \n", Output(0)),
    typed("exit\nl\n", Output(0)),
    typed("h\n?\nl\nLIST\n\n", Output(0)),
    typed(
        "x\na\nallow\nDENY\na x\nd 1x\na 9\nd 1\na -\nq\n",
        Output(0),
    ),
    case(
        &["--version"],
        Differs(2, 0, "ours has a version to tell; the original refuses to"),
    ),
    case(
        &["notify", "Title", "-t", "99999999999"],
        Differs(
            0,
            2,
            "the time has 32 bits on the bus; the original finds that out there, ours at once",
        ),
    ),
    Case {
        args: &["--json", "clearance"],
        input: "",
        same: Differs(2, 0, "ours also talks to programs"),
    },
];

#[tokio::test]
async fn what_is_said_to_it_is_taken_as_0_7_0_takes_it() {
    compare(Stack::V0_7_0).await;
}

#[tokio::test]
async fn what_is_said_to_it_is_taken_as_0_8_0_takes_it() {
    compare(Stack::V0_8_0).await;
}

#[tokio::test]
async fn what_is_said_to_it_is_taken_as_0_8_1_takes_it() {
    compare(Stack::V0_8_1).await;
}

/// Tells both programs every case.
async fn compare(stack: Stack) {
    for Case { args, input, same } in CASES {
        let place = Place::new();
        let theirs = place.theirs(stack, "terok-clearance-hub", args);
        let ours = place.ours_as("terok-clearance-hub", args);
        let (theirs, ours) = tokio::join!(told(theirs, input), told(ours, input));
        let both = format!("{args:?} {input:?}: {stack:?} {theirs:?}, ours {ours:?}");
        let statuses = (theirs.code, ours.code);
        match same {
            Output(code) => {
                assert_eq!(statuses, (*code, *code), "{both}");
                assert_eq!(theirs.output, ours.output, "{both}");
            }
            Help(code) => {
                assert_eq!(statuses, (*code, *code), "{both}");
                for side in [&theirs, &ours] {
                    assert!(side.output.to_lowercase().contains("usage: "), "{both}");
                    assert_eq!(side.errors, "", "{both}");
                }
            }
            Usage => {
                assert_eq!(statuses, (2, 2), "{both}");
                for side in [&theirs, &ours] {
                    assert!(side.output.is_empty() && !side.errors.is_empty(), "{both}");
                }
            }
            Differs(their, our, why) => assert_eq!(statuses, (*their, *our), "{why}: {both}"),
        }
    }
}

/// How a program ended, and what it said.
#[derive(Debug)]
struct Told {
    code: i32,
    output: String,
    errors: String,
}

async fn told(mut command: Command, input: &str) -> Told {
    let mut program = Running::start(&mut command);
    program.type_in(input).await;
    let ended = program.end().await;
    Told {
        code: ended.status.code().unwrap(),
        output: ended.output,
        errors: ended.errors,
    }
}

#[tokio::test]
async fn the_help_names_the_verbs_of_the_original() {
    let place = Place::new();
    let ours = told(place.ours_as("terok-clearance-hub", &[]), "").await;
    for stack in Stack::ALL {
        let theirs = told(place.theirs(stack, "terok-clearance-hub", &[]), "").await;
        let (_, verbs) = theirs.output.split_once('{').unwrap();
        let (verbs, _) = verbs.split_once('}').unwrap();
        for verb in verbs.split(',') {
            assert!(ours.output.contains(&format!("\n  {verb} ")), "{verb}");
        }
    }
}

#[tokio::test]
async fn the_servers_end_well_at_either_signal() {
    for (verb, ready) in [
        ("serve", ["clearance hub online", "the hub listens"]),
        (
            "serve-verdict",
            ["verdict helper online", "the verdict helper listens"],
        ),
    ] {
        for signal in [Signal::INT, Signal::TERM] {
            let place = Place::new();
            let theirs = place.theirs(Stack::V0_8_1, "terok-clearance-hub", &[verb]);
            for (mut command, ready) in [
                (theirs, ready[0]),
                (place.ours_as("terok-clearance-hub", &[verb]), ready[1]),
            ] {
                let mut server = Running::start(&mut command);
                server.until_error(ready).await;
                let classic = place.runtime().shared_hub_sockets();
                let socket = match verb {
                    "serve" => classic.hub,
                    _ => classic.verdict,
                };
                answers(&socket).await;
                server.signal(signal);
                let ended = server.end().await;
                assert_eq!(ended.status.code(), Some(0), "{verb} {signal:?} {ended:?}");
            }
        }
    }
}

/// Waits for a server to answer: by then it has caught its signals, too.
async fn answers(socket: &Path) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let call = b"{\"method\":\"org.varlink.service.GetInfo\"}\0";
    stream.write_all(call).await.unwrap();
    stream.read_u8().await.unwrap();
}

/// The original catches the signals and then waits for a line that nobody may type.
#[tokio::test]
async fn the_terminal_tool_ends_at_a_signal_without_another_line() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 0)] {
        let place = Place::new();
        let command = &mut place.theirs(Stack::V0_8_1, "terok-clearance-hub", &["clearance"]);
        let mut theirs = Running::start(command);
        theirs.until("q quit\n\n").await;
        // It catches the signals after its first words and before it reads.
        theirs.say("h").await;
        theirs.until("  q       quit\n").await;
        theirs.signal(signal);
        theirs.say("h").await;
        // It would have ended by a signal, with a status of its own.
        assert_eq!(theirs.end().await.status.code(), Some(0));

        let command = &mut place.ours_as("terok-clearance-hub", &["clearance"]);
        let mut ours = Running::start(command);
        ours.until("q quit\n\n").await;
        ours.signal(signal);
        assert_eq!(ours.wait().await.code(), Some(status), "{signal:?}");
    }
}

/// A place with a hub where the tools of `stack` look for it, and a firewall that obeys.
async fn asked(stack: Stack) -> (Place, Running, Running) {
    let place = Place::new();
    let under = place.path().join("terok/clearance");
    let hub = match stack {
        Stack::V0_7_0 => under.join("0123456789ab.sock"),
        _ => under.join("0123456789ab/hub.sock"),
    };
    let classic = place.runtime().shared_hub_sockets();
    let mut command = place.ours_as("terok-clearance-hub", &["serve-verdict"]);
    let helper = place
        .serve(command.args(["--shield", "/bin/true"]), &[classic.verdict])
        .await;
    let mut command = place.ours_as("terok-clearance-hub", &["serve", "--clearance-socket"]);
    let sockets = [hub.clone(), classic.ingester];
    let hub = place.serve(command.arg(hub), &sockets).await;
    (place, hub, helper)
}

const BLOCKED: &str = "\x1b[33m[1] BLOCKED  Blocked: api.example.com:443  \
                       Task: warp/t1 \u{b7} build\nProtocol: TCP";
const ALLOWED: &str = "\x1b[32mAllowed: api.example.com  Task: warp/t1 \u{b7} build\x1b[0m\n";

#[tokio::test]
async fn a_question_and_its_answer_look_as_in_the_original() {
    for stack in Stack::ALL {
        let (place, _hub, _helper) = asked(stack).await;
        for (request, name) in [("0123456789ab:1", "theirs"), ("0123456789ab:2", "ours")] {
            let mut command = match name {
                "theirs" => place.theirs(stack, "terok-clearance-hub", &["clearance"]),
                _ => place.ours_as("terok-clearance-hub", &["--color=always", "clearance"]),
            };
            let mut tool = Running::start(&mut command);
            tool.until("q quit\n\n").await;
            place.report(&[pending(request, "api.example.com")]).await;
            let shown = tool.until("Protocol: TCP").await;
            assert_eq!(shown, BLOCKED, "{name}");
            // Ours goes on and says what an answer opens.
            if name == "ours" {
                tool.until("\nAllow opens: ").await;
            }
            tool.until("\x1b[0m\n").await;
            tool.say("a 1").await;
            assert_eq!(tool.until("\x1b[0m\n").await, ALLOWED, "{name}");
            tool.say("l").await;
            assert_eq!(tool.line().await, "  (no pending requests)", "{name}");
            tool.say("q").await;
            assert_eq!(tool.end().await.status.code(), Some(0), "{name}");
        }
    }
}

/// The original takes the second packet of a question for its answer, and forgets the row.
#[tokio::test]
async fn a_question_that_is_blocked_again_stays_in_ours_and_is_lost_in_theirs() {
    let again = pending("0123456789ab:2", "api.example.com");
    let (place, _hub, _helper) = asked(Stack::V0_8_1).await;
    let question = [pending("0123456789ab:1", "api.example.com")];
    let command = &mut place.theirs(Stack::V0_8_1, "terok-clearance-hub", &["clearance"]);
    let mut theirs = Running::start(command);
    theirs.until("q quit\n\n").await;
    place.report(&question).await;
    theirs.until("[1] BLOCKED").await;
    place.report(&[again]).await;
    theirs.until("Blocked 2 times since ").await;
    theirs.say("l").await;
    theirs.until("  (no pending requests)\n").await;
    theirs.say("a 1").await;
    theirs.until("No pending request [1]\n").await;

    let command = &mut place.ours_as("terok-clearance-hub", &["clearance"]);
    let mut ours = Running::start(command);
    ours.until("[1] BLOCKED").await;
    ours.until("\nAllow opens: ").await;
    ours.say("l").await;
    let listed = ours.until("\nAllow opens: ").await;
    assert!(
        listed.contains("\n  [1] Blocked: api.example.com:443  Task: "),
        "{listed}"
    );
    ours.say("a 1").await;
    ours.until("Allowed: api.example.com  Task: ").await;
}
