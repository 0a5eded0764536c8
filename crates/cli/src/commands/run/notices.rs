// SPDX-License-Identifier: Apache-2.0
//! The texts of the messages of `run`.

use ::tui::Hotkey;
use policy::RuleOrigin;
use runner::{
    EgressNotice, PopupSource, PublishedPort, RecordNotice, RunNotice, RunReporter, RunRules,
};
use terok_clearance::{DisplayText, error_chain};

use super::{learnt_text, summary};
use crate::StandardStreams;

/// Words the messages of `run`, and prints them to standard error.
#[derive(Debug)]
pub(super) struct TerminalReporter {
    pub(super) output: StandardStreams,
    pub(super) hotkey: Hotkey,
    pub(super) json: bool,
    pub(super) quiet: bool,
    /// Whether the run is recorded.
    pub(super) has_record: bool,
}

impl RunReporter for TerminalReporter {
    fn message(&self, notice: &RunNotice<'_>) -> Option<String> {
        let text = match notice {
            RunNotice::Started { .. } | RunNotice::Egress(_) if self.quiet => return None,
            RunNotice::Started {
                rules,
                popups,
                has_screen,
            } => {
                let how = self.describe_answering(*popups, *has_screen);
                format!("{}; {how}", describe_start_rules(rules))
            }
            RunNotice::Learning if self.json => {
                return Some(serde_json::json!({"step": "learning"}).to_string());
            }
            RunNotice::Learning => "WARNING: --learn: EVERYTHING on the internet is OPEN to the \
                                    command, except for what rules deny; what it reaches is \
                                    recorded and shown at the end"
                .to_owned(),
            RunNotice::Learnt(learnt) if self.json => {
                return Some(learnt_text::json(learnt).to_string());
            }
            RunNotice::Learnt(learnt) => learnt_text::text(learnt, self.has_record)?,
            RunNotice::Record(notice) => describe_record_notice(notice),
            RunNotice::RecordIncomplete => RECORD_INCOMPLETE.to_owned(),
            RunNotice::KeptUnreadable(reason) => {
                format!(
                    "a file of rules was changed and is not used: {reason}; its old rules count"
                )
            }
            RunNotice::SharedSocket(path) if self.json => {
                return Some(serde_json::json!({"step": "shared", "socket": path}).to_string());
            }
            RunNotice::SharedSocket(_) if self.quiet => return None,
            RunNotice::SharedSocket(path) => format!(
                "the command can use {}; the program behind it acts outside of the sandbox",
                DisplayText::new(&path.to_string_lossy())
            ),
            RunNotice::Published(port) if self.json => return Some(json_published(port)),
            // A port that the operator does not know is more than a message.
            RunNotice::Published(port) if self.quiet && !port.is_chosen => return None,
            RunNotice::Published(port) => format!("published {port}"),
            RunNotice::QuestionsPending(1) => {
                format!("1 question; {} to answer", self.hotkey)
            }
            RunNotice::QuestionsPending(count) => {
                format!("{count} questions; {} to answer", self.hotkey)
            }
            RunNotice::ScreenFailed(error) => format!("the screen failed: {error}"),
            RunNotice::Egress(notice) => describe_egress_notice(notice)?,
            RunNotice::SupervisorFailed(error) => format!(
                "{}: nothing new can be answered, and no connection is made any more",
                error_chain(error)
            ),
            RunNotice::Ended(run) if self.json => return Some(summary::json(run).to_string()),
            RunNotice::Ended(_) if self.quiet => return None,
            RunNotice::Ended(run) => summary::text(run)?,
            _ => return None,
        };
        Some(format!("terok-clearance: {text}"))
    }

    fn print(&self, text: &str) {
        self.output.print_error_line(text);
    }
}

impl TerminalReporter {
    fn describe_answering(&self, popups: PopupSource, has_screen: bool) -> String {
        let hotkey = self.hotkey;
        match (popups, has_screen) {
            (PopupSource::Own, true) => {
                format!("popups ask; {hotkey} shows the questions here too")
            }
            (PopupSource::Own, false) => "popups ask".to_owned(),
            (PopupSource::Notifier, true) => {
                format!("`terok-clearance notifier` asks; {hotkey} shows the questions here too")
            }
            (PopupSource::Notifier, false) => "`terok-clearance notifier` asks".to_owned(),
            (PopupSource::Off, true) => format!("{hotkey} shows the questions"),
            (PopupSource::Off, false) => {
                "answer questions with `terok-clearance clearance` in another terminal".to_owned()
            }
        }
    }
}

/// Words what is open from the start: `nothing is open at first`, `open from the start: 3
/// destinations (profile npm, 1 of --allow)`.
fn describe_start_rules(rules: &RunRules) -> String {
    let mut sources: Vec<String> = rules
        .profiles
        .iter()
        .map(|name| format!("profile {name}"))
        .collect();
    let count = |origin: &RuleOrigin| {
        let of_origin = rules.rules.iter().filter(|rule| rule.origin == *origin);
        of_origin.count()
    };
    let mut add = |count: usize, words: &str| {
        if count > 0 {
            sources.push(format!("{count} {words}"));
        }
    };
    add(count(&RuleOrigin::Flag), "of options");
    add(count(&RuleOrigin::TrustedFile), "of the project's own file");
    add(count(&RuleOrigin::Organisation), "of your organisation");
    if let Some(kept) = &rules.kept {
        if let Some(project) = &kept.project {
            let of_project = kept.store.load_project(project);
            let of_project = of_project.map_or(0, |file| file.rule_count());
            let path = project.display_text();
            add(of_project, &format!("kept for {path}"));
        }
        let always = kept.store.load_always();
        add(
            always.map_or(0, |file| file.rule_count()),
            "kept for always",
        );
    }
    if sources.is_empty() {
        "nothing is open until you allow it".to_owned()
    } else {
        format!("rules from the start: {}", sources.join(", "))
    }
}

/// Words a refusal without a question; `None` for one without words.
fn describe_egress_notice(notice: &EgressNotice) -> Option<String> {
    Some(match notice {
        EgressNotice::Floor(dest) => format!(
            "refused {dest}: link-local, cloud metadata and reserved addresses are never opened"
        ),
        EgressNotice::OperatorProxy(dest) => {
            format!("refused {dest}: it is your proxy, which leads everywhere")
        }
        EgressNotice::NobodyAnswers(dest) => format!(
            "refused {dest}: nobody is there to answer; run `terok-clearance clearance` or \
             `terok-clearance tui` in another terminal, or start with `--allow {dest}`"
        ),
        EgressNotice::HoldEnded(dest) => format!(
            "refused {dest}: nobody answered in time (--hold); an answer serves the next attempt"
        ),
        EgressNotice::UnsupportedProtocol(protocol) => {
            format!("refused a packet of protocol {protocol}: only TCP, UDP and ping pass")
        }
        EgressNotice::TooManyHeld => {
            "refused connections: too many wait for an answer already".to_owned()
        }
        EgressNotice::TooManyNames => {
            "refused lookups: the command has used up the names of one run".to_owned()
        }
        EgressNotice::RecordRefused { name, record_type } => {
            format!("refused a lookup of {record_type} records of {name}: no rule allows the name")
        }
        EgressNotice::OutOfSockets(dest) => {
            format!("could not connect to {dest}: too many open files (raise `ulimit -n`)")
        }
        EgressNotice::LookupsOutOfSockets => {
            "could not look up names: too many open files (raise `ulimit -n`)".to_owned()
        }
        EgressNotice::NoticesOmitted => {
            "refused more than is shown: later messages of this kind are left out".to_owned()
        }
        EgressNotice::ServerNameMismatch { dest, found } => {
            format!("reset a connection to {dest}: --check-sni found {found}")
        }
        EgressNotice::ServerNameUnreadable(dest) => {
            format!("refused QUIC to {dest}: --check-sni cannot read its server name")
        }
        _ => return None,
    })
}

/// Returns a published port as one JSON object.
fn json_published(port: &PublishedPort) -> String {
    let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
    let object = serde_json::json!({
        "step": "published",
        "addresses": addresses,
        "port": port.port,
        "protocol": port.protocol.to_string(),
    });
    object.to_string()
}

/// The message at the end of a sandbox whose record is incomplete.
pub(crate) const RECORD_INCOMPLETE: &str = "the last entries of the record could not be written";

/// Returns the message about a change of the record's state.
pub(crate) fn describe_record_notice(notice: &RecordNotice) -> String {
    match notice {
        RecordNotice::Failed(error) => format!(
            "the record cannot be written: {}; connections go on, and what is lost is counted",
            error_chain(error)
        ),
        RecordNotice::Restored { lost } => {
            format!("the record is written again; {lost} entries are lost")
        }
        _ => "the state of the record has changed".to_owned(),
    }
}
