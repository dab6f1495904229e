//! `claviger session`: who is logged in, and no longer.

use std::io::Write;

use clap::Subcommand;

use super::exit::Failure;
use super::stores::Stores;
use super::user::{find, tell};
use crate::api::objects::{SessionObject, rfc3339};
use crate::auth::accounts::Change;
use crate::config::Config;
use crate::store::tokens::{Session, SessionId};

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the sessions of a user, the newest first
    List {
        /// The username
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End one session
    Revoke {
        /// The id, as `session list` prints it
        id: String,
    },
    /// End all sessions of a user
    RevokeAll {
        /// The username
        name: String,
    },
}

pub(super) async fn run(
    command: Command,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let stores = Stores::open(config).await?;
    match command {
        Command::List { name, json } => {
            if stores.tokens.is_local() {
                return Err(Failure::Config(
                    "tokens.url is memory: only the service itself knows its sessions; the user can list them at \
                     /v1.0/user/sessions"
                        .to_owned(),
                ));
            }
            let user = find(&stores.users, &name).await?;
            let sessions = stores.tokens.sessions(user.id).await?;
            if json {
                as_json(&sessions, out)
            } else {
                as_table(&sessions, out)
            }
        }
        Command::Revoke { id } => {
            let session: SessionId = id
                .parse()
                .map_err(|error| Failure::Data(format!("the id is none: {error}")))?;
            match stores.accounts.end_session(session).await? {
                Change::Done { ended: 0 } => Err(Failure::Data(
                    "there is no living session of this id".to_owned(),
                )),
                change => tell("revoked the session", change, out),
            }
        }
        Command::RevokeAll { name } => {
            let user = find(&stores.users, &name).await?;
            let change = stores.accounts.end_sessions(user.id).await?;
            tell(&format!("revoked all of {}", user.username), change, out)
        }
    }
}

fn as_table(sessions: &[Session], out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "{:<28}  {:<20}  {:<20}  {:<20}  {:<15}  USER AGENT",
        "ID", "CREATED", "LAST SEEN", "EXPIRES", "ADDRESS"
    )?;
    for session in sessions {
        let address = session.device.address().map(|address| address.to_string());
        writeln!(
            out,
            "{:<28}  {:<20}  {:<20}  {:<20}  {:<15}  {}",
            session.id.to_string(),
            rfc3339(&session.created_at),
            rfc3339(&session.last_seen_at),
            rfc3339(&session.expires_at),
            address.unwrap_or_default(),
            session.device.user_agent()
        )?;
    }
    Ok(())
}

fn as_json(sessions: &[Session], out: &mut dyn Write) -> Result<(), Failure> {
    let objects: Vec<SessionObject> = sessions.iter().map(SessionObject::from).collect();
    let text = serde_json::to_string_pretty(&objects).map_err(anyhow::Error::from)?;
    Ok(writeln!(out, "{text}")?)
}
