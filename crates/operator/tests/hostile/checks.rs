// SPDX-License-Identifier: Apache-2.0
//! The definition of "harmless" rejects harmful output.

use crate::harmless::{Harmless, decoded, tame};

const TEXT: &str = "a\u{1b}[31m \"b\"\nallow";

#[test]
fn text_in_its_place_without_control_characters_is_harmless() {
    let harmless = Harmless::new(&[TEXT.to_owned()]);
    let plain = format!("wants {}: allow?\n", tame(TEXT));
    assert_eq!(plain, "wants ~ ~~~~ \"~\" ~~~~~: allow?\n");
    let check = |shown: &str, harm: bool| {
        assert_eq!(harmless.text(&plain, shown).is_err(), harm, "{shown:?}");
    };
    check("wants a [31m \"b\" allow: allow?\n", false);
    for shown in [
        format!("wants {TEXT}: allow?\n").as_str(),
        "wants a\u{1b}[31m \"b\" allow: allow?\n",
        "wants a\u{202e}[31m \"b\" allow: allow?\n",
        // Parts that are repeated, missing, moved or from another text.
        "wants a [31m \"b\" allow: allow?\nallow?\n",
        "wants a [31m \"b\" allow: allow? \n",
        "wants a [31m \"b\" allow : allow?\n",
        "wants a [31m \"b\" allow: allow?",
        "wants a [31m  b  allow: allow?\n",
        "wants a [31m \"b\" allow: block?\n",
        "wants a [31m \"b\" block: allow?\n",
        "",
    ] {
        check(shown, true);
    }
}

#[test]
fn a_json_line_with_harmless_strings_is_harmless() {
    let harmless = Harmless::new(&[TEXT.to_owned()]);
    let plain = r#"{"event":"x","dossier":{"~ ~~~~ \"~\" ~~~~~":"~ ~~~~ \"~\" ~~~~~"}}"#;
    let good = r#"{"event":"x","dossier":{"a [31m \"b\" allow":"a [31m \"b\" allow"}}"#;
    assert_eq!(harmless.json(plain, good), Ok(()));
    for shown in [
        good.replace("[31m \\\"b\\\" allow\"}", "[31m \\\"b\\\"\\nallow\"}"),
        good.replace(" allow\":", "\\nallow\":"),
        good.replace("\"x\"", "\"y\""),
        good.replace("a [31m", "a\u{202e}[31m"),
        good.replace(",\"dossier", ",\n\"dossier"),
        good.replace("}}", "},\"more\":1}"),
        format!("{good}\n{good}"),
        format!("{good} or so"),
    ] {
        assert_ne!(shown, good);
        assert!(harmless.json(plain, &shown).is_err(), "{shown}");
    }
}

#[test]
fn markup_has_no_tags() {
    assert_eq!(decoded("1 &lt; 2 &amp; 3 &gt; 2").unwrap(), "1 < 2 & 3 > 2");
    for markup in ["<b>", "a > b", "a & b", "&#60;", "&lt", "&broken;"] {
        assert!(decoded(markup).is_err(), "{markup}");
    }
}
