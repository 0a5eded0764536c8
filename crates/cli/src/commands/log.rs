// SPDX-License-Identifier: Apache-2.0
//! `log`: the record of questions, answers, rules and connections.

mod check;
mod entry_text;
mod kept_lines;
mod printer;
mod summary_table;
mod time_arg;

use std::path::PathBuf;

use anyhow::Context as _;
use record::{
    DestFilter, FILE_NAME, KNOWN_KINDS, ReadRecordError, RecordFilter, RecordFollower, RecordReader,
};
use rustix::event::{PollFd, PollFlags, poll};
use terok_clearance::Timestamp;

use crate::output::OutputError;
use crate::{CommandContext, CommandError, CommandStatus};
use kept_lines::KeptLines;
use printer::EntryPrinter;
use time_arg::TimeArg;

/// Long help.
pub(super) const ABOUT: &str = "Show the record: questions, answers, rules and connections.

Prints what happened in every sandbox of yours, the oldest first: who asked for what, who answered \
and how, which connections were made and how many bytes they carried, and what was refused. Each \
line of the record has the hash of the line before; --verify checks them.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance log --since 2h                    the last two hours
  terok-clearance log --sandbox web --kind refused  what was refused to one sandbox
  terok-clearance log --dest '*.example.com' -n 20  the last 20 entries about these names
  terok-clearance log --since 7d --summary          bytes and connections of each destination
  terok-clearance log --follow                      the last 10 entries, then each new one
  terok-clearance log --json | jq -r 'select(.kind == \"closed\") | [.dest, .bytes_out] | @tsv'
  terok-clearance log --verify                      was a line changed or removed?

TIME is an age (45s, 30m, 2h, 7d, 3w), today, yesterday, a date (2026-11-29), a local date and time
(2026-11-29 10:00), or a time with an offset (2026-11-29T09:00:00Z).

Kinds: asked, answered, rule_added, rule_ended, connected, closed, refused, sandbox_started,
sandbox_ended, posture, lost, note; docs/record.md explains them. Several values of one option are
alternatives, different options are conditions that all hold.

--verify finds lines that were changed, added, removed or moved between two others. It cannot find
that the newest or the oldest lines are missing, nor that everything was written anew: the record is
a file of yours, and no protection from yourself.

With --json, each line is an entry as the record has it (docs/schema/record.json), in ASCII; what
--summary and --verify print is described there, too.

Exit status:
  0    success, even if nothing was selected or nothing is recorded yet
  1    the record cannot be read; --verify: there is no record
  2    invalid arguments
  3    --verify: the chain is broken; the first such line is named
  With --follow, Ctrl-C ends it (130 in a shell).")]
pub struct Args {
    /// Only entries of this time and later
    #[arg(long, value_name = "TIME")]
    since: Option<TimeArg>,
    /// Only entries before this time
    #[arg(long, value_name = "TIME")]
    until: Option<TimeArg>,
    /// Only the sandbox with this name, id, or first 12 characters of the id; may be repeated
    #[arg(long, value_name = "NAME")]
    sandbox: Vec<String>,
    /// Only this destination, dialed address, or rules about it: a name, `*.` and a name, an
    /// address or a network; may be repeated
    #[arg(long, value_name = "DEST")]
    dest: Vec<DestFilter>,
    /// Only entries of this kind; may be repeated
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// Only sandboxes of the project in this directory; may be repeated
    #[arg(long, value_name = "DIR")]
    project: Vec<PathBuf>,
    /// Only the last entries
    #[arg(short = 'n', long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Print new entries as they come; without --since and --limit, after the last 10
    #[arg(short, long)]
    follow: bool,
    /// Print the sums of each destination: connections, bytes, refusals, and who allowed it
    #[arg(long, conflicts_with_all = ["follow", "limit"])]
    summary: bool,
    /// Check the hash in each line, and print the first line at which the chain breaks
    #[arg(long, conflicts_with_all = [
        "follow", "limit", "summary", "since", "until", "sandbox", "dest", "kind", "project",
    ])]
    verify: bool,
    /// Read this record instead of yours, together with its older files
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// The entries that are printed before new ones, unless others are asked for.
const FOLLOW_LIMIT: usize = 10;

impl Args {
    fn to_filter(&self) -> Result<RecordFilter, CommandError> {
        let (now, zone) = (Timestamp::now(), jiff::tz::TimeZone::system());
        let mut filter = RecordFilter::default();
        if let Some(since) = &self.since {
            filter = filter.since(since.resolve(now, &zone));
        }
        if let Some(until) = &self.until {
            filter = filter.until(until.resolve(now, &zone));
        }
        for name in &self.sandbox {
            filter = filter.sandbox(name);
        }
        for directory in &self.project {
            let path = std::path::absolute(directory)
                .with_context(|| format!("cannot find {}", directory.display()))?;
            filter = filter.project(&path.to_string_lossy());
        }
        for dest in &self.dest {
            filter = filter.dest(dest.clone());
        }
        for kind in &self.kind {
            filter = filter.kind(kind);
        }
        Ok(filter)
    }
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let own = || context.environment.state_dir().join(FILE_NAME);
    let path = args.file.clone().unwrap_or_else(own);
    if args.verify {
        return check::perform(&path, context);
    }
    for kind in &args.kind {
        if !KNOWN_KINDS.contains(&kind.as_str()) && !context.json {
            let known = KNOWN_KINDS.join(", ");
            let kind = terok_clearance::DisplayText::new(kind);
            let line = format!("warning: this version writes no kind {kind:?}; kinds: {known}");
            context.output.print_error_line(&line);
        }
    }
    let filter = args.to_filter()?;
    if args.follow {
        let has_choice = args.limit.is_some() || args.since.is_some();
        let limit = args.limit.or_else(|| (!has_choice).then_some(FOLLOW_LIMIT));
        return follow(&path, &filter, limit, context);
    }
    let mut reader = match RecordReader::open(&path) {
        Err(ReadRecordError::Missing(path)) => {
            if !context.json {
                let line = format!("nothing is recorded yet: there is no {}", path.display());
                context.output.print_error_line(&line);
            }
            return Ok(CommandStatus::OK);
        }
        reader => reader?,
    };
    if args.summary {
        return summary_table::perform(reader, &filter, context);
    }
    let mut printer = EntryPrinter::new(context);
    let mut kept = KeptLines::new(args.limit);
    while let Some(line) = reader.next_line()? {
        if filter.selects(line.bytes) {
            kept.push(line, &mut printer)?;
        }
    }
    kept.print(&mut printer)?;
    printer.flush()?;
    Ok(CommandStatus::OK)
}

/// Prints entries, and then new ones until the output is closed or a signal ends the program.
fn follow(
    path: &std::path::Path,
    filter: &RecordFilter,
    limit: Option<usize>,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let mut follower = RecordFollower::open(path)?;
    let mut printer = EntryPrinter::new(context);
    let mut kept = KeptLines::new(limit);
    loop {
        while let Some(line) = follower.next_line()? {
            if filter.selects(line.bytes) {
                kept.push(line, &mut printer)?;
            }
        }
        kept.print(&mut printer)?;
        printer.flush()?;
        // Every later entry is printed.
        kept = KeptLines::new(None);
        let stdout = std::io::stdout();
        // The errors of a closed output are always reported.
        let mut waiting = [
            PollFd::new(&follower, PollFlags::IN),
            PollFd::new(&stdout, PollFlags::empty()),
        ];
        match poll(&mut waiting, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(anyhow::Error::new(error)
                    .context("cannot wait for new entries")
                    .into());
            }
        }
        let [_, output] = waiting;
        if !output.revents().is_empty() {
            return Err(OutputError::Closed.into());
        }
        follower.clear_events().context("cannot watch the record")?;
    }
}
