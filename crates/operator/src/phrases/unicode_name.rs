// SPDX-License-Identifier: Apache-2.0
//! The Unicode form of internationalised host names, if it is safe to show.
//!
//! A sandbox chooses the names that it asks for, and some letters look like others. The ASCII form
//! is therefore always shown; the Unicode form is added only if it cannot mislead.

use terok_clearance::{Dest, Target};

/// Scripts of which a label may have letters of one only, besides digits and hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LabelScript {
    Latin,
    Greek,
    Cyrillic,
    /// Chinese, Japanese and Korean, which are mixed with ASCII letters in everyday use.
    EastAsian,
}

/// Returns the Unicode form of an internationalised name, `None` for other destinations, and for
/// names whose Unicode form could mislead.
///
/// The form has letters, digits, hyphens and dots only. Each label is in one left-to-right script,
/// and no label is in Greek or Cyrillic letters that all look like Latin ones.
pub fn unicode_name(dest: &Dest) -> Option<String> {
    let Ok(Target::Name(name)) = dest.parse_target() else {
        return None;
    };
    let unicode = name.display_unicode()?;
    unicode.split('.').all(is_unambiguous).then_some(unicode)
}

fn is_unambiguous(label: &str) -> bool {
    let mut script = None;
    let mut has_ascii_letter = false;
    for c in label.chars() {
        if c.is_ascii() {
            has_ascii_letter |= c.is_ascii_alphabetic();
            continue;
        }
        let Some(own) = script_of(c) else {
            return false;
        };
        if *script.get_or_insert(own) != own {
            return false;
        }
    }
    match script {
        None => !label.starts_with("xn--"),
        Some(LabelScript::Latin | LabelScript::EastAsian) => true,
        Some(LabelScript::Greek | LabelScript::Cyrillic) => {
            let looks_latin = |c: char| c.is_ascii() || looks_like_latin(c);
            !has_ascii_letter && !label.chars().all(looks_latin)
        }
    }
}

/// Returns the script of a letter; `None` for every other character, and for other scripts.
fn script_of(c: char) -> Option<LabelScript> {
    let script = match c {
        '\u{df}'..='\u{f6}' | '\u{f8}'..='\u{17f}' => LabelScript::Latin,
        '\u{3ac}'..='\u{3ce}' => LabelScript::Greek,
        '\u{430}'..='\u{45f}' | '\u{490}'..='\u{4ff}' => LabelScript::Cyrillic,
        '\u{3041}'..='\u{3096}'
        | '\u{30a1}'..='\u{30fa}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}' => LabelScript::EastAsian,
        _ => return None,
    };
    // The ranges exclude letters that look like a hyphen, such as the long mark of Japanese.
    c.is_alphabetic().then_some(script)
}

/// Returns `true` for a Greek or Cyrillic letter that most fonts draw like a Latin one.
const fn looks_like_latin(c: char) -> bool {
    matches!(
        c,
        // Cyrillic: а с е һ і ј о р ѕ х у ь г п к ӏ ү ғ є ё ї
        '\u{430}' | '\u{441}' | '\u{435}' | '\u{4bb}' | '\u{456}' | '\u{458}' | '\u{43e}'
            | '\u{440}' | '\u{455}' | '\u{445}' | '\u{443}' | '\u{44c}' | '\u{433}' | '\u{43f}'
            | '\u{43a}' | '\u{4cf}' | '\u{4af}' | '\u{493}' | '\u{454}' | '\u{451}' | '\u{457}'
        // Greek: α γ ι κ ν ο ρ τ υ χ ω η, with and without accent
            | '\u{3b1}' | '\u{3b3}' | '\u{3b9}' | '\u{3ba}' | '\u{3bd}' | '\u{3bf}' | '\u{3c1}'
            | '\u{3c4}' | '\u{3c5}' | '\u{3c7}' | '\u{3c9}' | '\u{3b7}' | '\u{3ac}'
            | '\u{3ae}' | '\u{3af}' | '\u{3cc}' | '\u{3cd}' | '\u{3ce}' | '\u{3ca}' | '\u{3cb}'
    )
}

#[cfg(test)]
mod tests {
    use terok_clearance::DomainName;

    use super::*;

    fn check(dest: &str, expected: Option<&str>) {
        let dest: Dest = dest.parse().unwrap();
        assert_eq!(unicode_name(&dest).as_deref(), expected, "of {dest}");
    }

    #[test]
    fn names_in_one_script_have_a_unicode_form() {
        check("xn--bcher-kva.example", Some("b\u{fc}cher.example"));
        check("www.xn--strae-oqa.example", Some("www.stra\u{df}e.example"));
        check("xn--fsqu00a.example", Some("\u{4f8b}\u{5b50}.example"));
        check(
            "xn--e1afmkfd.example",
            Some("\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.example"),
        );
    }

    #[test]
    fn other_destinations_have_none() {
        for dest in [
            "api.example.com",
            "203.0.113.7",
            "2001:db8::7",
            "not a name",
            // Not Punycode, not its canonical form, or a decoded ASCII name.
            "xn--\u{7f}.example",
            "xn--a-.example",
            "xn--abc-.example",
            "xn--zzzzzzzzzzzzzz.example",
        ] {
            check(dest, None);
        }
    }

    #[test]
    fn misleading_names_have_none() {
        let ascii = |name: &str| DomainName::from_unicode(name).unwrap().to_string();
        for name in [
            // Cyrillic letters alone that look Latin, and one among Latin letters.
            "\u{430}\u{440}\u{440}\u{4cf}\u{435}.example",
            "p\u{430}ypal.example",
            "\u{3b1}\u{3bf}\u{3c5}.example",
            // Combining marks, right-to-left letters, look-alikes of separators.
            "z\u{327}\u{335}.example",
            "\u{5d0}\u{5d1}.example",
            "a\u{30fc}b.example",
            "a\u{b7}b.example",
            // One good label does not help another.
            "b\u{fc}cher.p\u{430}ypal.example",
        ] {
            let ascii = ascii(name);
            assert!(ascii.contains("xn--"), "{ascii}");
            check(&ascii, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn the_form_has_letters_digits_hyphens_and_dots(tail in "[a-z0-9]{1,20}", head in "[a-z]{0,8}") {
            let dest: Dest = format!("xn--{head}-{tail}.example").parse().unwrap();
            if let Some(name) = unicode_name(&dest) {
                let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.');
                proptest::prop_assert!(name.chars().all(plain), "{name:?}");
            }
        }
    }
}
