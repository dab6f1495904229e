//! `claviger user import`: users of another program, from a file of JSON Lines.
//!
//! The file is read twice: nothing is written before every line was found to be good. Neither reading holds more than a batch of
//! lines, and a number for each name.

mod line;
mod lines;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use self::lines::Lines;
use self::report::{Problems, Progress};
use super::Failure;
use crate::auth::accounts::Accounts;
use crate::auth::password::phc::Cost;
use crate::auth::password::stored::Bounds;
use crate::config::Loaded;
use crate::store::tokens::Tokens;
use crate::store::users::{ImportError, Imported, ImportedUser, OnConflict, Users};
use crate::store::{StoreError, with_sources};

/// Users in one transaction.
const BATCH: usize = 500;

/// What is to be imported, and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The file: in each line a JSON object with `username`, and optionally `password_hash`, `is_admin` and `disabled`
    file: PathBuf,
    /// What to do with a user whose name is taken
    #[arg(long, value_enum, default_value_t)]
    on_conflict: Conflict,
    /// Leave lines out that are not valid, instead of importing nothing
    #[arg(long)]
    skip_invalid: bool,
}

/// See [`OnConflict`].
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Conflict {
    /// Import nothing
    #[default]
    Fail,
    /// Leave the user as it is
    Skip,
    /// Make the user what the line says; what it does not say stays
    Update,
}

impl From<Conflict> for OnConflict {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::Fail => Self::Fail,
            Conflict::Skip => Self::Skip,
            Conflict::Update => Self::Update,
        }
    }
}

/// A user, and the number of the line.
type Numbered = (u64, ImportedUser);

pub(super) async fn run(
    arguments: &Arguments,
    loaded: &Loaded,
    stores: (&Users, &Accounts, &Tokens),
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (users, accounts, tokens) = stores;
    let file = &arguments.file;
    if file.as_os_str() == "-" {
        return Err(Failure::Usage(
            "the file is read twice, so it can't be standard input".to_owned(),
        ));
    }
    let mut lines = Lines::open(file, bounds(loaded)?)?;
    let left_out = check(&mut lines, arguments, users).await?;
    lines.rewind().map_err(|error| no_input(file, &error))?;

    let mut import = Import {
        file,
        users,
        on_conflict: arguments.on_conflict.into(),
        done: Imported::default(),
        ending: Ending {
            accounts,
            reachable: !tokens.is_local(),
            failed: false,
        },
    };
    import.all(&mut lines, arguments.skip_invalid).await?;
    let Imported {
        created,
        updated,
        unchanged,
        to_revoke,
    } = import.done;
    let ended = import.ending.last(to_revoke).await;
    writeln!(
        out,
        "{created} created, {updated} changed, {unchanged} left as they were, {left_out} invalid lines left out{}",
        match &ended {
            Ok(text) => text,
            Err(_) => "",
        }
    )?;
    ended.map(drop)
}

/// What the service that is configured so can verify; not what this machine, which may be another, has memory for.
fn bounds(loaded: &Loaded) -> Result<Bounds, Failure> {
    let password = &loaded.config.password;
    let current = Cost::new(
        password.memory_kib,
        password.iterations,
        password.parallelism,
    )
    .map_err(|error| Failure::Config(error.to_string()))?;
    Ok(Bounds::new(
        current,
        password.foreign_max_mib.saturating_mul(1024),
    ))
}

/// Reads all of the file and tells how many lines will be left out.
///
/// # Errors
/// A line is not valid, unless those are to be left out, or the name of one is taken, if that is to fail.
async fn check(lines: &mut Lines, arguments: &Arguments, users: &Users) -> Result<u64, Failure> {
    let file = &arguments.file;
    let on_conflict = OnConflict::from(arguments.on_conflict);
    let (mut invalid, mut taken) = (Problems::default(), Problems::default());
    let mut progress = Progress::new("checked");
    let mut batch: Vec<(u64, String)> = Vec::new();
    loop {
        let next = lines.next().map_err(|error| no_input(file, &error))?;
        match &next {
            Some((number, Ok(user))) if on_conflict == OnConflict::Fail => {
                batch.push((*number, user.username.clone()));
            }
            Some((number, Err(problem))) => invalid.add(*number, problem),
            Some(_) | None => {}
        }
        if batch.len() == BATCH || (next.is_none() && !batch.is_empty()) {
            let names: Vec<&str> = batch.iter().map(|(_, name)| name.as_str()).collect();
            let found = users.taken(&names).await?;
            for (number, _) in batch.iter().filter(|(_, name)| found.contains(name)) {
                taken.add(*number, &"the username is taken");
            }
            batch.clear();
        }
        match next {
            Some((number, _)) => progress.at(number),
            None => break,
        }
    }
    progress.end();
    let name = file.display();
    if !arguments.skip_invalid && invalid.count() > 0 {
        return Err(Failure::Data(format!(
            "{name}: nothing was imported, {} lines are not valid:{invalid}",
            invalid.count()
        )));
    }
    if taken.count() > 0 {
        return Err(Failure::Data(format!(
            "{name}: nothing was imported, {} users exist (see --on-conflict):{taken}",
            taken.count()
        )));
    }
    if invalid.count() > 0 {
        report::warn(&format!(
            "{name}: {} lines are not valid and will be left out:{invalid}",
            invalid.count()
        ));
    }
    Ok(invalid.count())
}

/// The second reading.
struct Import<'a> {
    file: &'a Path,
    users: &'a Users,
    on_conflict: OnConflict,
    done: Imported,
    ending: Ending<'a>,
}

impl Import<'_> {
    async fn all(&mut self, lines: &mut Lines, skip_invalid: bool) -> Result<(), Failure> {
        let mut progress = Progress::new("imported");
        let mut batch: Vec<Numbered> = Vec::new();
        loop {
            let next = lines.next().map_err(|error| no_input(self.file, &error))?;
            let last = next.is_none();
            match next {
                Some((number, Ok(user))) => batch.push((number, user)),
                Some((_, Err(_))) if skip_invalid => {}
                Some((number, Err(problem))) => {
                    let problem =
                        format!("line {number} {problem}: the file was changed meanwhile");
                    return Err(Failure::Data(self.stopped(&problem)));
                }
                None => {}
            }
            if batch.len() == BATCH || (last && !batch.is_empty()) {
                self.batch(&batch).await?;
                if let Some((number, _)) = batch.last() {
                    progress.at(*number);
                }
                batch.clear();
            }
            if last {
                break;
            }
        }
        progress.end();
        Ok(())
    }

    async fn batch(&mut self, batch: &[Numbered]) -> Result<(), Failure> {
        let users: Vec<ImportedUser> = batch.iter().map(|(_, user)| user.clone()).collect();
        let imported = match self.users.import(&users, self.on_conflict).await {
            Ok(imported) => imported,
            Err(error) => return Err(self.failed(batch, error).await),
        };
        self.done.created += imported.created;
        self.done.updated += imported.updated;
        self.done.unchanged += imported.unchanged;
        self.done.to_revoke += imported.to_revoke;
        if imported.to_revoke > 0 {
            self.ending.now().await;
        }
        Ok(())
    }

    /// What the command ends with because of a batch that was not imported.
    async fn failed(&self, batch: &[Numbered], error: ImportError) -> Failure {
        let number = |numbered: Option<&Numbered>| numbered.map_or(0, |(number, _)| *number);
        let (first, last) = (number(batch.first()), number(batch.last()));
        match error {
            ImportError::LastAdmin => {
                Failure::Data(self.stopped(&format!("lines {first} to {last}: {error}")))
            }
            ImportError::Store(StoreError::Conflict) => {
                let names: Vec<&str> = batch
                    .iter()
                    .map(|(_, user)| user.username.as_str())
                    .collect();
                let taken = self.users.taken(&names).await.unwrap_or_default();
                let mut lines = batch
                    .iter()
                    .filter(|(_, user)| taken.contains(&user.username));
                let line = number(lines.next());
                Failure::Data(
                    self.stopped(&format!("line {line}: the username was taken meanwhile")),
                )
            }
            ImportError::Store(error @ StoreError::Unavailable { .. }) => {
                let text = format!("lines {first} to {last}: {}", with_sources(&error));
                Failure::Unavailable(self.stopped(&text))
            }
            ImportError::Store(error) => error.into(),
        }
    }

    fn stopped(&self, why: &str) -> String {
        let Imported {
            created, updated, ..
        } = self.done;
        format!(
            "{}: {why}; {created} users were created and {updated} changed before that, and stay so",
            self.file.display()
        )
    }
}

/// Sessions that have to end.
struct Ending<'a> {
    accounts: &'a Accounts,
    /// They are not in the memory of another process.
    reachable: bool,
    failed: bool,
}

impl Ending<'_> {
    /// After each batch, so that what is noted does not become much. What fails is tried again at the end.
    async fn now(&mut self) {
        if self.reachable && !self.failed {
            self.failed = self.accounts.settle_pending().await.is_err();
        }
    }

    /// At the end. Tells what to say of it.
    async fn last(self, users: u64) -> Result<&'static str, Failure> {
        if users == 0 {
            return Ok("");
        }
        if !self.reachable {
            return Ok(
                "; the service, which keeps the tokens in its memory, ends the sessions of those who have to log in again \
                 within 1 s",
            );
        }
        match self.accounts.settle_pending().await {
            Ok(_) => Ok("; ended the sessions of those who have to log in again"),
            Err(error) => Err(Failure::Unavailable(format!(
                "sessions of those who have to log in again are still alive, and a running service ends them as soon as it \
                 can: {}",
                with_sources(&error)
            ))),
        }
    }
}

fn no_input(file: &Path, error: &std::io::Error) -> Failure {
    Failure::NoInput(format!("{}: {error}", file.display()))
}
