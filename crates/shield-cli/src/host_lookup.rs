// SPDX-License-Identifier: Apache-2.0
//! Looks names up with the programs of the host: `dig`, `drill` or `getent`.
//!
//! The same programs as the Python shield, so that both find the same addresses.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::program_runner::ProgramRunner;

/// The limit for one program. A name without an answer until then has no addresses.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Names that are looked up at the same time.
const PARALLEL_LOOKUPS: usize = 16;

/// The program for lookups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookupProgram {
    Dig,
    Drill,
    Getent,
}

/// Returns the addresses of names, each once, and the names without any.
pub(crate) async fn look_up_names(
    runner: &ProgramRunner,
    names: &[String],
) -> (Vec<IpAddr>, Vec<String>) {
    let program = if runner.find("dig").is_some() {
        LookupProgram::Dig
    } else if runner.find("drill").is_some() {
        LookupProgram::Drill
    } else {
        LookupProgram::Getent
    };
    let mut all = vec![Vec::new(); names.len()];
    let mut waiting = names.iter().cloned().enumerate();
    let mut running = JoinSet::new();
    loop {
        while running.len() < PARALLEL_LOOKUPS
            && let Some((at, name)) = waiting.next()
        {
            let runner = runner.clone();
            running.spawn(async move { (at, look_up(&runner, program, &name).await) });
        }
        match running.join_next().await {
            Some(Ok((at, found))) => {
                if let Some(place) = all.get_mut(at) {
                    *place = found;
                }
            }
            Some(Err(error)) => tracing::warn!(%error, "a lookup was not made"),
            None => break,
        }
    }
    let mut addresses = Vec::new();
    let mut unknown = Vec::new();
    for (name, found) in names.iter().zip(all) {
        if found.is_empty() {
            unknown.push(name.clone());
        }
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    (addresses, unknown)
}

async fn look_up(runner: &ProgramRunner, program: LookupProgram, name: &str) -> Vec<IpAddr> {
    let found = match program {
        LookupProgram::Dig => run(runner, "dig", &["+short", name, "A", name, "AAAA"]).await,
        LookupProgram::Drill => {
            let v4 = run(runner, "drill", &["-Q", name, "A"]).await;
            v4 + "\n" + &run(runner, "drill", &["-Q", name, "AAAA"]).await
        }
        LookupProgram::Getent => String::new(),
    };
    let found: Vec<IpAddr> = found
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    if !found.is_empty() {
        return found;
    }
    // The resolver of the C library also knows the hosts file, and works where dig does not.
    let mut found = Vec::new();
    for database in ["ahostsv4", "ahostsv6"] {
        let output = run(runner, "getent", &[database, name]).await;
        for line in output.lines() {
            let mut words = line.split_whitespace();
            let address = words.next().and_then(|word| word.parse().ok());
            if let (Some(address), Some("STREAM")) = (address, words.next())
                && !found.contains(&address)
            {
                found.push(address);
            }
        }
    }
    found
}

/// Returns the output of a program; a failure is the same as no answer.
async fn run(runner: &ProgramRunner, program: &str, arguments: &[&str]) -> String {
    let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
    match runner
        .run_any(program, &arguments, None, LOOKUP_TIMEOUT)
        .await
    {
        Ok(output) => output.stdout,
        Err(error) => {
            tracing::debug!(%program, %error, "no answer");
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn program(directory: &Path, name: &str, script: &str) {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    async fn look_up_in(directory: &Path, names: &[&str]) -> (String, String) {
        let runner = ProgramRunner::new(directory.into());
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let (found, unknown) = look_up_names(&runner, &names).await;
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        (found.join(" "), unknown.join(" "))
    }

    #[tokio::test]
    async fn the_first_installed_program_answers() {
        let place = tempfile::tempdir().unwrap();
        program(
            place.path(),
            "getent",
            "case $1 in ahostsv4) echo '192.0.2.1 STREAM a'; echo '192.0.2.1 DGRAM'; esac",
        );
        let names = ["a.example", "b.example"];
        let found = look_up_in(place.path(), &names).await;
        assert_eq!(found, ("192.0.2.1".to_owned(), String::new()));
        program(
            place.path(),
            "drill",
            "case $3 in A) echo 192.0.2.2;; *) echo 2001:db8::2; esac",
        );
        let found = look_up_in(place.path(), &names[..1]).await;
        assert_eq!(found.0, "192.0.2.2 2001:db8::2");
        program(place.path(), "dig", "echo alias.example.; echo 192.0.2.3");
        let found = look_up_in(place.path(), &names).await;
        assert_eq!(found, ("192.0.2.3".to_owned(), String::new()));
    }

    #[tokio::test]
    async fn a_name_without_an_answer_is_named() {
        let place = tempfile::tempdir().unwrap();
        program(place.path(), "dig", "case $2 in a*) echo 192.0.2.3; esac");
        let found = look_up_in(place.path(), &["b.example", "a.example"]).await;
        assert_eq!(found, ("192.0.2.3".to_owned(), "b.example".to_owned()));
        assert_eq!(
            look_up_in(place.path(), &[]).await,
            (String::new(), String::new())
        );
    }
}
