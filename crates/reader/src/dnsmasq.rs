// SPDX-License-Identifier: Apache-2.0
//! Names from the log of a sandbox's own dnsmasq, where no rule logs the answers themselves.
//!
//! Pure, and meets bytes that a sandbox chose: the names it asks for are in the log. A name may
//! have spaces in it, so only a line that is an answer from end to end counts; the Python stack's
//! readers find one anywhere in the text, which lets a sandbox name addresses as it likes.

use std::net::IpAddr;

use terok_clearance::DomainName;

/// Reads the log as it grows.
#[derive(Debug, Default)]
pub struct DnsmasqLogParser {
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
    /// The rest of a line that is too long comes to nothing.
    skipping: bool,
}

impl DnsmasqLogParser {
    /// The longest line that is read: a name of 253 bytes, an address, and what dnsmasq says first.
    const MAX_LINE_BYTES: usize = 1024;

    /// Takes the next bytes of the log and returns the answers that they complete, in their order.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<(IpAddr, DomainName)> {
        let mut found = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (whole, piece) = match piece.strip_suffix(b"\n") {
                Some(line) => (true, line),
                None => (false, piece),
            };
            if !self.skipping {
                let room = Self::MAX_LINE_BYTES.saturating_sub(self.partial.len());
                self.skipping = piece.len() > room;
                self.partial.extend(piece.iter().take(room));
            }
            if whole {
                if !self.skipping {
                    found.extend(parse_reply(&self.partial));
                }
                self.discard_partial();
            }
        }
        found
    }

    /// Forgets the start of a line: what comes next starts one.
    pub fn discard_partial(&mut self) {
        self.partial.clear();
        self.skipping = false;
    }
}

/// Reads a line such as `Nov 22 02:53:43 dnsmasq[7]: reply a.example is 203.0.113.7`; with
/// `log-queries=extra` a number and the asker come before `reply`.
fn parse_reply(line: &[u8]) -> Option<(IpAddr, DomainName)> {
    let line = std::str::from_utf8(line).ok()?;
    let said = match line.split_once("dnsmasq[") {
        Some((_, after)) => after.split_once("]: ")?.1,
        None => line,
    };
    let mut words = said.split_ascii_whitespace();
    let mut first = words.next()?;
    if first.bytes().all(|byte| byte.is_ascii_digit()) {
        let (_asker, verb) = (words.next()?, words.next()?);
        first = verb;
    }
    let (name, is, address) = (words.next()?, words.next()?, words.next()?);
    let answer = matches!(first, "reply" | "cached") && is == "is" && words.next().is_none();
    if !answer {
        return None;
    }
    // `<CNAME>`, `NXDOMAIN` and the like are no addresses.
    let address = address.parse().ok()?;
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name).parse().ok()?;
    Some((address, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(replies: &mut DnsmasqLogParser, text: &str) -> Vec<String> {
        let found = replies.feed(text.as_bytes());
        found
            .iter()
            .map(|(ip, name)| format!("{ip} {name}"))
            .collect()
    }

    #[test]
    fn an_answer_is_a_whole_line() {
        for (line, expected) in [
            (
                "reply a.example is 203.0.113.7",
                Some("203.0.113.7 a.example"),
            ),
            (
                "Nov 22 02:53:43 dnsmasq[7]: reply A.example. is 203.0.113.7",
                Some("203.0.113.7 a.example"),
            ),
            (
                "Nov 22 02:53:43 dnsmasq[7]: cached a.example is 2001:db8::7",
                Some("2001:db8::7 a.example"),
            ),
            (
                "dnsmasq[7]: 12 127.0.0.1/53 reply a.example is 203.0.113.7",
                Some("203.0.113.7 a.example"),
            ),
            ("dnsmasq[7]: reply www.example is <CNAME>", None),
            ("dnsmasq[7]: reply no.example is NXDOMAIN", None),
            ("dnsmasq[7]: forwarded a.example to 192.0.2.53", None),
            ("dnsmasq[7]: query[A] a.example from 127.0.0.1", None),
            ("dnsmasq[7]: config a.example is 203.0.113.7", None),
            // Names that a sandbox asks for, made to look like answers.
            (
                "dnsmasq[7]: query[A] reply bank.example is 203.0.113.7 from 127.0.0.1",
                None,
            ),
            (
                "dnsmasq[7]: reply x reply bank.example is 203.0.113.7 is NXDOMAIN",
                None,
            ),
            (
                "dnsmasq[7]: query[A] dnsmasq[7]: reply bank.example is 203.0.113.7",
                None,
            ),
            ("dnsmasq[7]: reply a\u{1b}[31m.example is 203.0.113.7", None),
            ("reply is is is", None),
            ("", None),
        ] {
            let expected: Vec<_> = expected.map(str::to_owned).into_iter().collect();
            assert_eq!(
                names(&mut DnsmasqLogParser::default(), &format!("{line}\n")),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn lines_come_in_pieces_and_endless_ones_are_skipped() {
        let mut replies = DnsmasqLogParser::default();
        assert!(names(&mut replies, "reply a.exa").is_empty());
        assert!(names(&mut replies, "mple is 192.0.2.").is_empty());
        let both = names(&mut replies, "1\nreply b.example is 192.0.2.2\nrep");
        assert_eq!(both, ["192.0.2.1 a.example", "192.0.2.2 b.example"]);
        assert!(names(&mut replies, &"x".repeat(100_000)).is_empty());
        assert!(replies.partial.len() <= DnsmasqLogParser::MAX_LINE_BYTES);
        let after = names(
            &mut replies,
            " is 192.0.2.3\nreply c.example is 192.0.2.3\n",
        );
        assert_eq!(after, ["192.0.2.3 c.example"]);
    }

    proptest::proptest! {
        #[test]
        fn pieces_of_any_size_say_the_same(
            text in r"((reply|cached|query) [a-z.]{1,9} is [0-9.:<>A]{1,12} ?\n?|[\PC\n]{0,8}){0,8}",
            at in 0..200_usize,
        ) {
            let whole = DnsmasqLogParser::default().feed(text.as_bytes());
            let (one, two) = text.as_bytes().split_at(at.min(text.len()));
            let mut replies = DnsmasqLogParser::default();
            let mut pieces = replies.feed(one);
            pieces.extend(replies.feed(two));
            proptest::prop_assert_eq!(whole, pieces);
        }
    }
}
