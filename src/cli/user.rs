//! `claviger user`: the people who may log in.

mod import;

use std::io::{self, IsTerminal, Read, Write};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::exit::Failure;
use super::stores::Stores;
use crate::api::objects::{UserObject, rfc3339};
use crate::app::BuildError;
use crate::auth::accounts::Change;
use crate::auth::hash_pool::sizing::Sizing;
use crate::auth::hash_pool::{HashPool, Observer};
use crate::auth::limits::Limits;
use crate::auth::password::{Password, Policy};
use crate::auth::username::Username;
use crate::config::{self, Loaded};
use crate::store::attempts::Attempts;
use crate::store::audit::Author;
use crate::store::tokens::Tokens;
use crate::store::users::{NewUser, User, Users};
use crate::store::with_sources;

/// Users that are read at once.
const PAGE: u64 = 500;

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a user
    Add {
        /// The username
        name: String,
        /// Make the user an administrator
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// List all users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a new password
    Passwd {
        /// The username
        name: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Refuse a user's logins
    Disable {
        /// The username
        name: String,
    },
    /// Allow a user's logins again
    Enable {
        /// The username
        name: String,
    },
    /// Forget the failed attempts to log in with a name
    Unlock {
        /// The username
        name: String,
    },
    /// Delete a user; the id is never used again
    Delete {
        /// The username
        name: String,
    },
    /// Create many users, with the password hashes that another program made
    Import(import::Arguments),
}

/// Where a password comes from: a prompt, or standard input. Never an argument, which every user of the machine can read.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct PasswordSource {
    /// Read the password from standard input, without one line end at its end
    #[arg(long)]
    password_stdin: bool,
}

pub(super) async fn run(
    command: Command,
    loaded: &Loaded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Stores {
        users,
        accounts,
        tokens,
    } = Stores::open(&loaded.config).await?;
    let author = Author::command();
    match command {
        Command::Add {
            name,
            admin,
            password,
        } => {
            let username = username(&name)?;
            let password_hash = Some(new_hash(password, username.as_str(), loaded).await?);
            let new = NewUser {
                username: username.as_str().to_owned(),
                password_hash,
                is_admin: admin,
                disabled: false,
            };
            let user = accounts.create(new, &author).await?;
            writeln!(out, "created {} with id {}", user.username, user.id)?;
        }
        Command::List { json } => list(&users, json, out).await?,
        Command::Passwd { name, password } => {
            let user = find(&users, &name).await?;
            let hash = new_hash(password, &user.username, loaded).await?;
            let change = accounts.set_password(user.id, hash, &author).await?;
            if !tokens.is_local() {
                // Whoever was locked out for an old password is let in with the new one. The store may be away, which is told below.
                let _ = unlock(loaded, &tokens, &name).await;
            }
            tell(
                &format!("changed the password of {}", user.username),
                change,
                out,
            )?;
        }
        Command::Disable { name } => {
            let user = find(&users, &name).await?;
            let change = accounts.set_disabled(user.id, true, &author).await?;
            tell(&format!("disabled {}", user.username), change, out)?;
        }
        Command::Enable { name } => {
            let user = find(&users, &name).await?;
            match accounts.set_disabled(user.id, false, &author).await? {
                Change::NotFound => return Err(Failure::NoUser),
                _ => writeln!(out, "enabled {}", user.username)?,
            }
        }
        Command::Unlock { name } => {
            if tokens.is_local() {
                return Err(Failure::Config(
                    "tokens.url is memory: only the service itself knows the attempts to log in, and forgets them when it is \
                     restarted"
                        .to_owned(),
                ));
            }
            let unlocked = unlock(loaded, &tokens, &name).await?;
            // A name that nobody has can be locked too, and somebody may be about to get it.
            let done = if unlocked { "unlocked" } else { "not locked:" };
            writeln!(out, "{done} {}", username(&name)?.as_str())?;
        }
        Command::Delete { name } => {
            let user = find(&users, &name).await?;
            let change = accounts.delete(user.id, &author).await?;
            tell(&format!("deleted {}", user.username), change, out)?;
        }
        Command::Import(arguments) => {
            import::run(&arguments, loaded, (&users, &accounts, &tokens), out).await?;
        }
    }
    Ok(())
}

/// Says what was done, and what became of the sessions.
///
/// # Errors
/// They are still alive, or somebody else deleted the user between the look-up and the change.
pub(super) fn tell(done: &str, change: Change, out: &mut dyn Write) -> Result<(), Failure> {
    match change {
        Change::NotFound => Err(Failure::NoUser),
        Change::LastAdmin => Err(Failure::LastAdmin),
        Change::Done { ended: 1 } => Ok(writeln!(out, "{done}; ended 1 session")?),
        Change::Done { ended } => Ok(writeln!(out, "{done}; ended {ended} sessions")?),
        Change::Noted => Ok(writeln!(
            out,
            "{done}; the service, which keeps the tokens in its memory, ends the sessions within 1 s"
        )?),
        Change::Pending(error) => Err(Failure::Unavailable(format!(
            "{done}; what has to end is still alive, and a running service ends it as soon as it can: {}",
            with_sources(&error)
        ))),
    }
}

fn username(name: &str) -> Result<Username, Failure> {
    Username::parse(name).map_err(|error| Failure::Data(format!("the username {error}")))
}

pub(super) async fn find(users: &Users, name: &str) -> Result<User, Failure> {
    users
        .find(username(name)?.as_str())
        .await?
        .ok_or(Failure::NoUser)
}

/// Forgets the failed attempts to log in with a name, and tells whether there were any.
async fn unlock(loaded: &Loaded, tokens: &Tokens, name: &str) -> Result<bool, Failure> {
    let limits = Limits::new(&loaded.config.limits, Attempts::beside(tokens));
    Ok(limits.unlock(&username(name)?).await?)
}

async fn new_hash(
    source: PasswordSource,
    username: &str,
    loaded: &Loaded,
) -> Result<SecretString, Failure> {
    let password = Password::parse(source.read()?)
        .map_err(|error| Failure::Data(format!("the password {error}")))?;
    Policy {
        min_length: loaded.config.password.min_length,
    }
    .check(&password, username)
    .map_err(|error| Failure::Data(format!("the password {error}")))?;
    hash(&password, loaded).await
}

/// Hashes one password, with a gate of one worker.
pub(super) async fn hash(password: &Password, loaded: &Loaded) -> Result<SecretString, Failure> {
    let settings = config::Password {
        workers: Some(1),
        // Nobody else is in the queue, so there is nothing to shed: on a busy machine the one hash just takes its time.
        queue_timeout: std::time::Duration::from_mins(5),
        ..loaded.config.password.clone()
    };
    let start = || -> Result<HashPool, BuildError> {
        let sizing = Sizing::detect(&settings)?;
        Ok(HashPool::start(&settings, &sizing, Observer::default())?)
    };
    let hash_pool = start().map_err(|error| super::not_built(loaded, error))?;
    Ok(hash_pool.hash(password).await?)
}

impl PasswordSource {
    fn read(self) -> Result<SecretString, Failure> {
        if self.password_stdin {
            return from_stdin(&mut io::stdin().lock());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Usage(
                "there is no terminal to ask for a password: use --password-stdin".to_owned(),
            ));
        }
        let password = SecretString::from(rpassword::prompt_password("Password: ")?);
        let again = SecretString::from(rpassword::prompt_password("Once more: ")?);
        if password.expose_secret() == again.expose_secret() {
            Ok(password)
        } else {
            Err(Failure::Data("the two passwords differ".to_owned()))
        }
    }
}

/// Takes all of it but one line end at its end: a password may begin or end with a space, or hold a line end.
fn from_stdin(input: &mut dyn Read) -> Result<SecretString, Failure> {
    let mut text = Zeroizing::new(String::new());
    input
        .read_to_string(&mut text)
        .map_err(|error| Failure::Data(format!("standard input: {error}")))?;
    let password = text.strip_suffix('\n').map_or(text.as_str(), |line| {
        line.strip_suffix('\r').unwrap_or(line)
    });
    Ok(SecretString::from(password))
}

async fn list(users: &Users, as_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut after = 0;
    let mut first = true;
    if as_json {
        write!(out, "[")?;
    } else {
        writeln!(
            out,
            "{:>8}  {:<5}  {:<8}  {:<20}  USERNAME",
            "ID", "ADMIN", "STATE", "LAST LOGIN"
        )?;
    }
    loop {
        let page = users.list(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for user in &page {
            if as_json {
                let object = serde_json::to_string(&UserObject::from(user));
                let object = object.map_err(anyhow::Error::from)?;
                write!(out, "{}\n  {object}", if first { "" } else { "," })?;
            } else {
                let admin = if user.is_admin { "yes" } else { "no" };
                let state = if user.disabled_at.is_some() {
                    "disabled"
                } else {
                    "enabled"
                };
                let last_login = user
                    .last_login_at
                    .as_ref()
                    .map_or_else(|| "never".to_owned(), rfc3339);
                writeln!(
                    out,
                    "{:>8}  {admin:<5}  {state:<8}  {last_login:<20}  {}",
                    user.id, user.username
                )?;
            }
            first = false;
        }
    }
    if as_json {
        writeln!(out, "{}]", if first { "" } else { "\n" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_taken_from_a_password_and_nothing_else() {
        for (input, password) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\n\n", "secret\n"),
            ("secret\r", "secret\r"),
            (" secret \n", " secret "),
            ("", ""),
        ] {
            assert_eq!(
                from_stdin(&mut input.as_bytes()).unwrap().expose_secret(),
                password,
                "{input:?}"
            );
        }
        assert!(from_stdin(&mut &[0xff][..]).is_err());
    }
}
