// SPDX-License-Identifier: Apache-2.0
//! Selects lines of a record. Most lines are decided without parsing them.

use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use terok_clearance::{
    DestPattern, DestPatternError, DisplayText, HostPattern, PacketHost, Target, Timestamp,
};

use crate::line::{EscapedText, FieldName, LineHead};
use crate::{format_record_time, parse_line};

/// Selects lines. Without any condition, it selects all.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    since: Option<(Timestamp, String)>,
    until: Option<(Timestamp, String)>,
    sandboxes: Vec<String>,
    projects: Vec<DisplayText>,
    dests: Vec<DestFilter>,
    kinds: Vec<String>,
}

/// A destination of interest: a name, `*.` and a name, an address or a network.
#[derive(Debug, Clone)]
pub struct DestFilter(HostPattern);

impl FromStr for DestFilter {
    type Err = DestPatternError;

    /// Parses a pattern. A port or a protocol in the text is ignored.
    fn from_str(text: &str) -> Result<Self, DestPatternError> {
        let pattern: DestPattern = text.parse()?;
        Ok(Self(pattern.host().clone()))
    }
}

impl DestFilter {
    /// Returns `true` if the filter covers the destination or the dialed address of an event, or
    /// if the filter or the pattern of a rule covers the other.
    fn matches(&self, texts: &DestTexts<'_>) -> bool {
        let covers = |text: &str| parse_host(text).is_some_and(|host| self.0.matches(&host));
        texts.dest.is_some_and(covers)
            || texts.address.is_some_and(covers)
            || texts.pattern.is_some_and(|text| self.overlaps(text))
    }

    fn overlaps(&self, pattern: &str) -> bool {
        let Ok(pattern) = pattern.parse::<DestPattern>() else {
            return false;
        };
        let covers = |one: &HostPattern, other: &HostPattern| match other {
            HostPattern::Name(name) => one.matches(&PacketHost::Name(name.clone())),
            HostPattern::Address(address) => one.matches(&PacketHost::Address(*address)),
            HostPattern::Subdomains(_) | HostPattern::Network(_) => one == other,
        };
        covers(&self.0, pattern.host()) || covers(pattern.host(), &self.0)
    }
}

fn parse_host(text: &str) -> Option<PacketHost> {
    match text.parse::<Target>().ok()? {
        Target::Address(address) => Some(PacketHost::Address(address)),
        Target::Name(name) => Some(PacketHost::Name(name)),
    }
}

/// The texts of a line that name a destination.
#[derive(Default)]
struct DestTexts<'a> {
    dest: Option<&'a str>,
    address: Option<&'a str>,
    pattern: Option<&'a str>,
}

#[derive(Deserialize)]
struct DestFields {
    #[serde(default)]
    dest: Option<String>,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    pattern: Option<String>,
}

impl RecordFilter {
    /// Selects entries of this time and later.
    #[must_use]
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some((time, format_record_time(time)));
        self
    }

    /// Selects entries before this time.
    #[must_use]
    pub fn until(mut self, time: Timestamp) -> Self {
        self.until = Some((time, format_record_time(time)));
        self
    }

    /// Selects a sandbox by its name, its id, or the first 12 characters of the id. Several are
    /// alternatives.
    #[must_use]
    pub fn sandbox(mut self, name: &str) -> Self {
        self.sandboxes.push(name.to_owned());
        self
    }

    /// Selects a project by its directory. Several are alternatives.
    #[must_use]
    pub fn project(mut self, directory: &str) -> Self {
        self.projects.push(DisplayText::name(directory));
        self
    }

    /// Selects a destination. Several are alternatives.
    #[must_use]
    pub fn dest(mut self, dest: DestFilter) -> Self {
        self.dests.push(dest);
        self
    }

    /// Selects a kind, also one that this version does not know. Several are alternatives.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        self.kinds.push(kind.to_owned());
        self
    }

    /// Returns `true` without any condition.
    pub const fn is_empty(&self) -> bool {
        self.since.is_none()
            && self.until.is_none()
            && self.sandboxes.is_empty()
            && self.projects.is_empty()
            && self.dests.is_empty()
            && self.kinds.is_empty()
    }

    /// Returns `true` if the line is selected. A line that is no entry meets no condition.
    pub fn selects(&self, line: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        let quick = LineHead::scan(line).map(|head| self.selects_head(&head));
        match quick {
            Some(Ok(selected)) => selected,
            None | Some(Err(EscapedText)) => self.selects_parsed(line),
        }
    }

    /// Decides by a search for the fields in the bytes of the line.
    fn selects_head(&self, head: &LineHead<'_>) -> Result<bool, EscapedText> {
        let is_in_time = self
            .since
            .as_ref()
            .is_none_or(|(_, since)| head.time >= since.as_bytes())
            && self
                .until
                .as_ref()
                .is_none_or(|(_, until)| head.time < until.as_bytes());
        let has_kind = |kind: &String| kind.as_bytes() == head.kind;
        if !is_in_time || !(self.kinds.is_empty() || self.kinds.iter().any(has_kind)) {
            return Ok(false);
        }
        if !self.sandboxes.is_empty() {
            let (id, name) = (
                head.text(&FieldName::SANDBOX)?,
                head.text(&FieldName::NAME)?,
            );
            if !self.has_sandbox(id, name) {
                return Ok(false);
            }
        }
        if !self.projects.is_empty() {
            let project = head.text(&FieldName::PROJECT)?;
            if !self.has_project(project) {
                return Ok(false);
            }
        }
        if self.dests.is_empty() {
            return Ok(true);
        }
        let texts = DestTexts {
            dest: head.text(&FieldName::DEST)?,
            address: head.text(&FieldName::ADDRESS)?,
            pattern: head.text(&FieldName::PATTERN)?,
        };
        Ok(self.has_dest(&texts))
    }

    /// Decides by the parsed line.
    fn selects_parsed(&self, line: &[u8]) -> bool {
        let Ok(entry) = parse_line(line) else {
            return false;
        };
        let is_in_time = self
            .since
            .as_ref()
            .is_none_or(|(since, _)| entry.time >= *since)
            && self
                .until
                .as_ref()
                .is_none_or(|(until, _)| entry.time < *until);
        let has_kind = |kind: &String| kind == entry.kind.as_str();
        if !is_in_time || !(self.kinds.is_empty() || self.kinds.iter().any(has_kind)) {
            return false;
        }
        let sandbox = entry.sandbox.as_ref();
        let name = sandbox.and_then(|sandbox| sandbox.name.as_ref());
        let project = sandbox.and_then(|sandbox| sandbox.project.as_ref());
        if !self.sandboxes.is_empty()
            && !self.has_sandbox(
                sandbox.map(|sandbox| sandbox.id.as_str()),
                name.map(DisplayText::as_str),
            )
        {
            return false;
        }
        if !self.projects.is_empty() && !self.has_project(project.map(DisplayText::as_str)) {
            return false;
        }
        if self.dests.is_empty() {
            return true;
        }
        let Ok(fields) = serde_json::from_slice::<DestFields>(line) else {
            return false;
        };
        let address = fields.address.map(|address| address.to_string());
        self.has_dest(&DestTexts {
            dest: fields.dest.as_deref(),
            address: address.as_deref(),
            pattern: fields.pattern.as_deref(),
        })
    }

    fn has_sandbox(&self, id: Option<&str>, name: Option<&str>) -> bool {
        const SHORT_CHARS: usize = 12;
        self.sandboxes.iter().any(|wanted| {
            let wanted = Some(wanted.as_str());
            wanted == id || wanted == name || wanted == id.and_then(|id| id.get(..SHORT_CHARS))
        })
    }

    fn has_project(&self, project: Option<&str>) -> bool {
        self.projects
            .iter()
            .any(|wanted| Some(wanted.as_str()) == project)
    }

    fn has_dest(&self, texts: &DestTexts<'_>) -> bool {
        self.dests.iter().any(|wanted| wanted.matches(texts))
    }
}
