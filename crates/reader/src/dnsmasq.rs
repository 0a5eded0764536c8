// SPDX-License-Identifier: Apache-2.0
//! Parses the log of a sandbox's own dnsmasq, for firewalls that do not log DNS answers.
//!
//! Pure. The log contains names chosen by the sandbox, possibly with spaces. Only a line that is an
//! answer from end to end counts; the Python stack's readers match anywhere in the text, which lets
//! a sandbox assign names to addresses.

use std::net::IpAddr;

use terok_clearance::DomainName;

/// An incremental parser of the log.
#[derive(Debug, Default)]
pub struct DnsmasqLogParser {
    /// The start of an incomplete line.
    partial: Vec<u8>,
    /// Set while the rest of an overlong line is skipped.
    skipping: bool,
}

impl DnsmasqLogParser {
    /// Maximum line length: a name of 253 bytes, an address, and the prefix of dnsmasq.
    const MAX_LINE_BYTES: usize = 1024;

    /// Consumes the next bytes of the log and returns the completed answers, in order.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<(IpAddr, DomainName)> {
        let mut found = Vec::new();
        for chunk in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (complete, text) = match chunk.strip_suffix(b"\n") {
                Some(line) => (true, line),
                None => (false, chunk),
            };
            if !self.skipping {
                let room = Self::MAX_LINE_BYTES.saturating_sub(self.partial.len());
                self.skipping = text.len() > room;
                self.partial.extend(text.iter().take(room));
            }
            if complete {
                if !self.skipping {
                    found.extend(parse_reply(&self.partial));
                }
                self.discard_partial();
            }
        }
        found
    }

    /// Discards an incomplete line: the next bytes start a new one.
    pub fn discard_partial(&mut self) {
        self.partial.clear();
        self.skipping = false;
    }
}

/// Parses a line such as `Nov 22 02:53:43 dnsmasq[7]: reply a.example is 203.0.113.7`; with
/// `log-queries=extra` a number and the client precede `reply`.
fn parse_reply(line: &[u8]) -> Option<(IpAddr, DomainName)> {
    let line = std::str::from_utf8(line).ok()?;
    let message = match line.split_once("dnsmasq[") {
        Some((_, after)) => after.split_once("]: ")?.1,
        None => line,
    };
    let mut words = message.split_ascii_whitespace();
    let mut first = words.next()?;
    if first.bytes().all(|byte| byte.is_ascii_digit()) {
        let (_client, verb) = (words.next()?, words.next()?);
        first = verb;
    }
    let (name, is, address) = (words.next()?, words.next()?, words.next()?);
    let answer = matches!(first, "reply" | "cached") && is == "is" && words.next().is_none();
    if !answer {
        return None;
    }
    // `<CNAME>`, `NXDOMAIN` and similar words are not addresses.
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
    fn only_a_whole_line_is_an_answer() {
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
            // Queries crafted to look like answers.
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
    fn lines_may_arrive_in_chunks_and_overlong_ones_are_skipped() {
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
        fn the_chunk_size_does_not_matter(
            text in r"((reply|cached|query) [a-z.]{1,9} is [0-9.:<>A]{1,12} ?\n?|[\PC\n]{0,8}){0,8}",
            at in 0..200_usize,
        ) {
            let whole = DnsmasqLogParser::default().feed(text.as_bytes());
            let (one, two) = text.as_bytes().split_at(at.min(text.len()));
            let mut replies = DnsmasqLogParser::default();
            let mut chunks = replies.feed(one);
            chunks.extend(replies.feed(two));
            proptest::prop_assert_eq!(whole, chunks);
        }
    }
}
