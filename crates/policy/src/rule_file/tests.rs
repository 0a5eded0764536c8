// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;
use terok_clearance::{PacketDest, PacketHost, Protocol};

use super::*;

fn pattern(text: &str) -> DestPattern {
    text.parse().unwrap()
}

fn file(text: &str) -> RuleFile {
    RuleFile::parse(text.as_bytes()).unwrap()
}

/// Returns the rules as `!pattern@line`.
fn rules(file: &RuleFile) -> Vec<String> {
    let mark = |action| if action == Action::Deny { "!" } else { "" };
    file.rules()
        .map(|rule| format!("{}{}@{}", mark(rule.action), rule.pattern, rule.line))
        .collect()
}

fn problems(text: &str) -> Vec<(usize, RuleLineProblem)> {
    let error = RuleFile::parse(text.as_bytes()).unwrap_err();
    let lines = error.lines().iter();
    lines
        .map(|error| (error.line, error.problem.clone()))
        .collect()
}

#[test]
fn rules_comments_and_blanks_are_lines() {
    let text = "# all of it\n\n  Example.com.:443/tcp\t# trailing\r\n*.a.example\n!b.example\n\
                ! 10.0.0.0/8:22\n[2001:db8::1]:53/udp #x\n192.0.2.1/icmp\n!169.254.169.254\nc.example";
    let file = file(text);
    let expected = [
        "example.com:443/tcp@3",
        "*.a.example@4",
        "!b.example@5",
        "!10.0.0.0/8:22@6",
        "[2001:db8::1]:53/udp@7",
        "192.0.2.1/icmp@8",
        "!169.254.169.254@9",
        "c.example@10",
    ];
    assert_eq!(rules(&file), expected);
    assert_eq!(file.render(), text);
    assert_eq!(file.purpose().unwrap().as_str(), "all of it");
    assert_eq!(RuleFile::parse(b"").unwrap().render(), "");
    let marked = "\u{feff}a.example\n";
    assert_eq!(
        rules(&RuleFile::parse(marked.as_bytes()).unwrap()),
        ["a.example@1"]
    );
    assert_eq!(RuleFile::parse(marked.as_bytes()).unwrap().render(), marked);
}

#[test]
fn every_wrong_line_is_reported_with_what_to_write() {
    let error = RuleFile::parse(
        b"ok.example\nhttps://a.example/x\na.example b.example\n\n169.254.169.254\n\xff\xfe\n*\n",
    )
    .unwrap_err();
    let lines: Vec<_> = error.lines().iter().map(|error| error.line).collect();
    assert_eq!(lines, [2, 3, 5, 6, 7]);
    assert_eq!(
        error.to_string(),
        "line 2: \"https://a.example/x\" is a URL: write a.example:443 (and 4 more lines are wrong)"
    );
    assert_eq!(error.lines()[1].text.as_str(), "a.example b.example");
}

#[test]
fn unclear_lines_are_refused() {
    let problem = |line: &str| problems(line).remove(0).1;
    assert_eq!(problem("fe80::/10"), RuleLineProblem::FloorAllowed);
    assert_eq!(problem("+169.254.169.254"), RuleLineProblem::FloorAllowed);
    assert_eq!(problem("a.example#x"), RuleLineProblem::AttachedComment);
    assert_eq!(problem("- a.example"), RuleLineProblem::DetachedMark);
    assert_eq!(problem("+"), RuleLineProblem::DetachedMark);
    assert_eq!(
        problem("+a.example %expires=2026-06-09T12:00Z"),
        RuleLineProblem::Expires
    );
    for local in [
        "localhost",
        "localhost:80",
        "+localhost",
        "*.localhost",
        "+x.localhost:80",
    ] {
        assert_eq!(problem(local), RuleLineProblem::Localhost, "{local}");
    }
    for second in [
        "a.example %reason=x",
        "+a.example %",
        "+a.example x",
        "!a.example b",
    ] {
        assert!(
            matches!(problem(second), RuleLineProblem::SecondWord(_)),
            "{second}"
        );
    }
    for (control, code) in [
        ("a\rb.example", 0xd),
        ("# \u{1b}[2J", 0x1b),
        ("# \u{202e}", 0x202e),
    ] {
        assert_eq!(problem(control), RuleLineProblem::ControlCharacter(code));
    }
    for wrong in [
        "!",
        "!!a.example",
        "+!a.example",
        "a.example,b.example",
        "\u{a0}a.example",
    ] {
        assert!(
            matches!(problem(wrong), RuleLineProblem::Destination(_)),
            "{wrong}"
        );
    }
}

#[test]
fn sizes_are_limited() {
    let long = format!("a.example # {}", "x".repeat(MAX_RULE_LINE_BYTES));
    assert_eq!(problems(&long)[0].1, RuleLineProblem::TooLong);
    let mut many = "a.example\n".repeat(MAX_FILE_RULES);
    assert_eq!(file(&many).rule_count(), MAX_FILE_RULES);
    many.push_str("a.example\n");
    let error = problems(&many);
    assert_eq!(error, [(MAX_FILE_RULES + 1, RuleLineProblem::TooManyRules)]);
    let large = vec![b'\n'; MAX_RULE_FILE_BYTES + 1];
    let bytes = large.len();
    assert_eq!(
        RuleFile::parse(&large),
        Err(RuleFileError::TooLarge { bytes })
    );
    assert!(RuleFile::parse(&large[1..]).is_ok());
}

#[test]
fn lines_of_terok_shield_are_read() {
    // Lines as in its bundled profiles and in the examples of its policy format, release 0.9.0.
    let shield = file(
        "# Essential infrastructure domains\n\n+root-servers.net\n+r3.o.lencr.org\n+pypi.org   # allow\n\
         +*.pythonhosted.org#x\n+192.168.1.50:8080\n+localhost:8000\n-telemetry.vendor.com\n\
         +api.anthropic.com  %reason=harness-test %hits=3 # why\n+[2001:db8::1]:443\n-10.0.0.0/8\n\
         -*.ads.example:443 %expires=2026-06-09T12:00Z\n",
    );
    let expected = [
        "root-servers.net@3",
        "r3.o.lencr.org@4",
        "pypi.org@5",
        "*.pythonhosted.org@6",
        "192.168.1.50:8080@7",
        "host.internal:8000/tcp@8",
        "!telemetry.vendor.com@9",
        "!*.telemetry.vendor.com@9",
        "api.anthropic.com@10",
        "[2001:db8::1]:443@11",
        "!10.0.0.0/8@12",
        "!*.ads.example@13",
        "!ads.example@13",
    ];
    assert_eq!(rules(&shield), expected);
    // Lines as in the profiles of release 0.7.0, which had no marks.
    assert_eq!(
        rules(&file("# Common\ngithub.com\nnvcr.io\n")),
        ["github.com@2", "nvcr.io@3"]
    );
}

#[test]
fn a_rule_is_added_at_the_end_in_the_style_of_the_file() {
    let check = |before: &str, action, dest: &str, after: &str| {
        let mut file = file(before);
        let edit = file.add(action, &pattern(dest), Some("why")).unwrap();
        assert_eq!(file.render(), after);
        assert_eq!(edit.is_unchanged(), before == after);
        assert_eq!(file, RuleFile::parse(after.as_bytes()).unwrap());
    };
    check("", Action::Allow, "a.example", "a.example  # why\n");
    check("#x", Action::Deny, "a.example", "#x\n!a.example  # why\n");
    check(
        "#x\r\n",
        Action::Allow,
        "a.example:1",
        "#x\r\na.example:1  # why\r\n",
    );
    check(
        " a.example # y\n",
        Action::Allow,
        "a.example",
        " a.example # y\n",
    );
    check(
        "!a.example # y\n#z\n",
        Action::Allow,
        "a.example",
        "#z\na.example  # why\n",
    );
    check(
        "-a.example # y\n",
        Action::Allow,
        "a.example",
        "!*.a.example  # y\na.example  # why\n",
    );
    check(
        "a.example\n!a.example\n",
        Action::Deny,
        "a.example",
        "!a.example\n",
    );
}

#[test]
fn an_action_changes_in_its_place() {
    let check = |before: &str, action, after: &str| {
        let mut file = file(before);
        file.set_action(action, &pattern("a.example")).unwrap();
        assert_eq!(file.render(), after);
    };
    check(
        " a.example\t# y\r\nb.example",
        Action::Deny,
        " !a.example\t# y\r\nb.example",
    );
    check("! A.example # y\n", Action::Allow, "A.example # y\n");
    check(
        "+a.example %hits=2 # y\n",
        Action::Deny,
        "!a.example  # %hits=2 # y\n",
    );
    check("+a.example#y\n", Action::Deny, "!a.example  #y\n");
    check("-a.example", Action::Allow, "!*.a.example\na.example");
    check("b.example\n", Action::Deny, "b.example\n");
}

#[test]
fn a_rule_is_removed_with_its_line() {
    let mut own = file("#1\na.example # x\n!a.example\n#2");
    own.remove(Action::Allow, &pattern("a.example")).unwrap();
    assert_eq!(own.render(), "#1\n!a.example\n#2");
    let mut shield = file("-a.example %from=x\n");
    shield
        .remove(Action::Deny, &pattern("*.a.example"))
        .unwrap();
    assert_eq!(shield.render(), "!a.example  # %from=x\n");
    let edit = shield.remove(Action::Allow, &pattern("b.example")).unwrap();
    assert!(edit.is_unchanged());
}

#[test]
fn an_invalid_edit_changes_nothing() {
    let mut floor = file("!169.254.169.254\n");
    let address = pattern("169.254.169.254");
    for edit in [
        floor.add(Action::Allow, &address, None),
        floor.set_action(Action::Allow, &address),
    ] {
        assert!(matches!(edit, Err(RuleEditError::Rule { .. })));
    }
    let dest = pattern("a.example");
    let edit = floor.add(Action::Allow, &dest, Some("x\nb.example"));
    assert_eq!(edit, Err(RuleEditError::Comment));
    let comment = "x".repeat(MAX_RULE_LINE_BYTES);
    let edit = floor.add(Action::Allow, &dest, Some(&comment));
    assert!(matches!(edit, Err(RuleEditError::Rule { .. })));
    assert_eq!(floor.render(), "!169.254.169.254\n");
    let mut full = file(&"#\n".repeat(MAX_RULE_FILE_BYTES / 2));
    assert_eq!(
        full.add(Action::Deny, &dest, None),
        Err(RuleEditError::Full)
    );
    assert_eq!(full.render().len(), MAX_RULE_FILE_BYTES);
}

const HOSTS: [&str; 6] = [
    "a.example",
    "*.a.example",
    "b.a.example",
    "192.0.2.1",
    "10.0.0.0/8",
    "2001:db8::/32",
];

fn any_pattern() -> impl Strategy<Value = DestPattern> {
    let suffix = prop::sample::select(vec!["", ":443", ":1-9", ":443/tcp", "/udp", "/icmp"]);
    (prop::sample::select(HOSTS.to_vec()), suffix).prop_map(|(host, suffix)| {
        if host.contains(':') && suffix.starts_with(':') {
            pattern(&format!("[{host}]{suffix}"))
        } else {
            pattern(&format!("{host}{suffix}"))
        }
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Allow, Action::Deny])
}

/// Lines in many spellings, without an ending.
fn any_line() -> impl Strategy<Value = String> {
    let mark = prop::sample::select(vec!["", "!", "! ", "+", "-", "  ", "\t!"]);
    let tail = prop::sample::select(vec!["", " # x", "\t#y \u{fc}", " ", "  #"]);
    prop_oneof![
        3 => (mark, any_pattern(), tail).prop_map(|(mark, dest, tail)| format!("{mark}{dest}{tail}")),
        1 => Just(String::new()),
        1 => "[ \t]{0,2}#[ -~]{0,20}",
    ]
}

fn any_file() -> impl Strategy<Value = String> {
    let ending = prop::sample::select(vec!["\n", "\n", "\r\n"]);
    let lines = prop::collection::vec((any_line(), ending), 0..12);
    (lines, any::<bool>(), any::<bool>()).prop_map(|(lines, ended, marked)| {
        let mut text = String::from(if marked { BYTE_ORDER_MARK } else { "" });
        for (line, ending) in lines {
            text += &line;
            text += ending;
        }
        if !ended {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        text
    })
}

/// The rules without their lines.
fn plain_rules(file: &RuleFile) -> Vec<(Action, DestPattern)> {
    file.rules()
        .map(|rule| (rule.action, rule.pattern))
        .collect()
}

proptest! {
    #[test]
    fn the_text_of_a_file_is_kept(text in any_file()) {
        let file = file(&text);
        prop_assert_eq!(file.render(), text);
    }

    #[test]
    fn any_text_is_kept_or_refused(text in "[ -~\t\r\n\u{80}-\u{300}]{0,80}") {
        if let Ok(file) = RuleFile::parse(text.as_bytes()) {
            prop_assert_eq!(file.render(), text);
        }
    }

    #[test]
    fn an_added_rule_is_found_and_its_opposite_is_gone(
        text in any_file(), action in any_action(), dest in any_pattern(),
    ) {
        let before = file(&text);
        let mut after = before.clone();
        after.add(action, &dest, Some("by a test")).unwrap();
        prop_assert_eq!(&file(&after.render()), &after);
        prop_assert!(after.contains(action, &dest));
        let opposite = match action { Action::Allow => Action::Deny, Action::Deny => Action::Allow };
        prop_assert!(!after.contains(opposite, &dest));
        // Every other rule stays, in its order.
        let others = |file: &RuleFile| {
            let mut rules = plain_rules(file);
            rules.retain(|(_, covered)| *covered != dest);
            rules
        };
        prop_assert_eq!(others(&after), others(&before));
        // Every line without this destination stays, byte for byte.
        let lines = |file: &RuleFile| -> Vec<String> {
            let kept = file.lines.iter().filter(|line| {
                line.rules.iter().all(|(_, covered)| *covered != dest)
            });
            kept.map(|line| split_ending(&line.text).0.to_owned()).collect()
        };
        let kept = lines(&before);
        let after_lines = lines(&after);
        prop_assert!(kept.iter().all(|line| after_lines.contains(line)));
    }

    #[test]
    fn an_edit_never_opens_more_than_its_rule(
        text in any_file(), action in any_action(), dest in any_pattern(), kind in 0..3,
    ) {
        let before = file(&text);
        let mut after = before.clone();
        match kind {
            0 => after.add(action, &dest, None).unwrap(),
            1 => after.remove(action, &dest).unwrap(),
            _ => after.set_action(action, &dest).unwrap(),
        };
        let (old, new) = (plain_rules(&before), plain_rules(&after));
        for rule in &new {
            prop_assert!(old.contains(rule) || *rule == (action, dest.clone()), "{rule:?}");
        }
        for (own, covered) in &old {
            let kept = new.contains(&(*own, covered.clone()));
            prop_assert!(kept || *covered == dest, "{covered}");
        }
        prop_assert_eq!(RuleFile::parse(after.render().as_bytes()).unwrap(), after);
    }

    #[test]
    fn adding_and_removing_restores_the_rules(text in any_file(), dest in any_pattern()) {
        let before = file(&text);
        prop_assume!(!before.rules().any(|rule| rule.pattern == dest));
        let mut after = before.clone();
        after.add(Action::Allow, &dest, None).unwrap();
        after.remove(Action::Allow, &dest).unwrap();
        prop_assert_eq!(plain_rules(&after), plain_rules(&before));
        let ended = text.is_empty() || text.ends_with('\n') || text == BYTE_ORDER_MARK;
        if ended {
            prop_assert_eq!(after.render(), text);
        }
    }
}

#[test]
fn a_deny_of_terok_shield_covers_the_name_and_those_below() {
    let shield = file("-a.example:80\n");
    let covers = |name: &str| {
        let dest = PacketDest {
            host: PacketHost::Name(name.parse().unwrap()),
            port: 443,
            protocol: Protocol::TCP,
        };
        shield.rules().any(|rule| rule.pattern.matches(&dest))
    };
    assert!(covers("a.example") && covers("x.a.example") && covers("y.x.a.example"));
    assert!(!covers("xa.example"));
}
