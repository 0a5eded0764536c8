// SPDX-License-Identifier: Apache-2.0
//! The name of a task in the YAML file of old orchestrators: ours finds what `PyYAML` finds.

use desktop::identity::{ContainerInfo, ContainerInspector, IdentityResolver};
use terok_clearance::{ContainerId, DisplayText};

use crate::harness::{CONTAINER, Place, Running, Stack};

/// Documents by hand: each is a kind of its own.
const TABLE: &[&str] = &[
    "name: plain words\n",
    "name: a#b # comment\n",
    "# before\n\nname: after\n",
    "name: 'it''s'\n",
    "name: \"\\u00e9\\x41\\t\\\"q\\\" \\\\ \\N \\e\"\n",
    "name: \"two\n  lines\"\n",
    "name: two\n  lines\n",
    "name: |\n  kept\n   lines\n\n",
    "name: >+\n  folded\n  lines\n\n",
    "name: |2-\n   indented\n",
    "\"name\": quoted key\n",
    "? name\n: explicit\n",
    "{name: flow, other: [a, b]}\n",
    "{name: flow,}\n",
    "--- {name: x}\n...\n",
    "%YAML 1.1\n---\nname: x\n",
    "name: x\n---\nname: y\n",
    "name: first\nname: second\n",
    "a: &n anchored\nname: *n\n",
    "base: &b {name: base}\n<<: *b\n",
    "base: &b {name: base}\n<<: *b\nname: own\n",
    "a: &a {name: a}\nb: &b {task: b}\n<<: [*a, *b]\n",
    "a: &a {name: a}\nb: &b {<<: *a}\n<<: *b\n",
    "<<: [1]\nname: x\n",
    "name: !!str 5\n",
    "name: ! 5\n",
    "name: ! '5'\n",
    "name: ! x\n",
    "name: !!int '5'\n",
    "name: !custom x\n",
    "a: !custom x\nname: x\n",
    "name: !!binary aGk=\n",
    "name: =\n",
    "name: *missing\n",
    "name: [a]\n",
    "name: {a: b}\n",
    "name:\n",
    "name: ''\n",
    "meta:\n  name: inner\n",
    "- name: x\n",
    "? [a]\n: b\nname: x\n",
    "name: x\n\tbad: tab\n",
    "name: x\nbad: [1\n",
    "name: x: y\n",
    "name: -\n",
    "name: - x\n",
    "name: @at\n",
    "name: `tick\n",
    "name: %x\n",
    "name: \u{1}\n",
    "name: \u{7f}\n",
    "name: caf\u{e9} \u{2713} \u{1f600}\n",
    "\u{feff}name: bom\n",
    "name: x\r\nother: y\r\n",
    "name: y\n",
    "name: n\n",
    "name: yes\n",
    "name: Off\n",
    "name: nULL\n",
    "name: ~\n",
    "name: 12\n",
    "name: 0o17\n",
    "name: 017\n",
    "name: 08\n",
    "name: 0x1F\n",
    "name: 1_000\n",
    "name: 1:30\n",
    "name: 1:75\n",
    "name: 1e3\n",
    "name: 1.0e+3\n",
    "name: 1.0e3\n",
    "name: .5\n",
    "name: -.5\n",
    "name: 1.\n",
    "name: .inf\n",
    "name: +.inf\n",
    "name: .nan\n",
    "name: 190:20:30.15\n",
    "name: 2024-01-01\n",
    "name: 2024-1-1\n",
    "name: 2024-01-01T01:02:03Z\n",
    "name: 2024-01-01 1:02:03.5 +02:00\n",
    "name: 2024-01-01 1:02\n",
];

/// An engine whose containers have an old orchestrator's annotations.
struct OldContainers(String);

impl ContainerInspector for OldContainers {
    async fn inspect(&self, container: &ContainerId) -> ContainerInfo {
        let annotations = [
            ("ai.terok.project", "p"),
            ("ai.terok.task", "t"),
            ("ai.terok.task_meta_path", &self.0),
        ];
        ContainerInfo {
            container_id: DisplayText::new(container.as_str()),
            annotations: annotations
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..ContainerInfo::default()
        }
    }
}

/// Returns documents made of YAML's parts in a pseudo-random order, the same in every run.
///
/// Left out are forms that only one of the parsers takes: a comment right after a quote, a block
/// scalar at the start of the next line, an empty key.
fn generated(count: usize) -> Vec<String> {
    const STARTS: [&str; 8] = [
        "name: ", "name: ", "name: ", "task: ", "a: ", "", "- ", "  ",
    ];
    const PARTS: [&str; 20] = [
        "x",
        "two words",
        "'q'",
        "\"d\\n\"",
        " # c",
        "[a, b]",
        "{k: v}",
        "&a ",
        "*a",
        "7",
        "1.5",
        "true",
        "null",
        "2024-01-01",
        "!!str ",
        ",",
        "}",
        "]",
        "<<: ",
        "  ",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 1_000_003).unwrap() % below
    };
    let mut documents = Vec::new();
    for _ in 0..count {
        let mut document = String::new();
        for _ in 0..=next(4) {
            document += STARTS[next(STARTS.len())];
            for _ in 0..next(3) {
                document += PARTS[next(PARTS.len())];
            }
            document.push('\n');
        }
        documents.push(document);
    }
    documents
}

#[tokio::test]
async fn a_name_in_yaml_is_that_of_py_yaml() {
    let place = Place::new();
    let mut documents: Vec<_> = TABLE.iter().map(|&text| text.to_owned()).collect();
    documents.extend(generated(3000));
    let mut python = Running::start(&mut place.script(Stack::V0_7_0, "yaml_names.py", &[]));
    let json = serde_json::to_string(&documents).unwrap();
    python.type_in(&json).await;
    let ended = python.end().await;
    assert!(ended.status.success(), "{ended:?}");
    let expected: Vec<String> = serde_json::from_str(&ended.output).unwrap();
    let path = place.path().join("meta.yml");
    let resolver = IdentityResolver::new(OldContainers(path.to_str().unwrap().to_owned()));
    let container = CONTAINER.parse().unwrap();
    let mut different = Vec::new();
    for (document, expected) in documents.iter().zip(&expected) {
        std::fs::write(&path, document).unwrap();
        let found = resolver.resolve(&container).await.task_name;
        // Ours is made harmless for a screen.
        if found != DisplayText::name(expected).to_string() {
            different.push((document, expected, found));
        }
    }
    let named = expected.iter().filter(|name| !name.is_empty()).count();
    assert!(named > 100, "{named} names");
    assert_eq!(different, []);
}
