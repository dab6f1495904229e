//! The first administrator. There is no default account: either the operator names one, or a development instance makes one
//! with a random password.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

use super::hash_pool::{HashError, HashPool};
use super::password::{Password, PasswordError, Policy, PolicyError};
use super::username::{Username, UsernameError};
use crate::config::{Config, Mode};
use crate::store::users::{NewUser, Users};
use crate::store::{StoreError, database};

/// Where a development instance leaves the password if nobody watches.
pub const PASSWORD_FILE: &str = "claviger-admin-password";

/// The administrator that is created while `users` is empty.
#[derive(Debug)]
pub struct Bootstrap {
    username: Username,
    password: Password,
    /// The password in clear, to be told; only where nobody chose it.
    generated: Option<Generated>,
}

#[derive(Debug)]
struct Generated {
    password: SecretString,
    file: PathBuf,
    /// Where it is until the account exists. A name of its own: another process may start on the same database at this
    /// moment, and only one of the two makes the account.
    draft: PathBuf,
}

/// The administrator of the configuration can't be.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBootstrap {
    /// `bootstrap.username` is no username.
    #[error(transparent)]
    Username(#[from] UsernameError),
    /// `bootstrap.password` is no password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// `bootstrap.password` is refused by the policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The operating system gave no random bytes.
    #[error("no random bytes for a password: {0}")]
    Random(#[from] getrandom::Error),
}

impl InvalidBootstrap {
    /// The settings that it is about.
    pub fn keys(&self) -> &'static [&'static str] {
        match self {
            Self::Username(_) => &["bootstrap.username"],
            Self::Policy(PolicyError::TooShort { .. }) => {
                &["bootstrap.password", "password.min_length"]
            }
            Self::Policy(PolicyError::Username) => &["bootstrap.password", "bootstrap.username"],
            Self::Password(_) | Self::Policy(_) => &["bootstrap.password"],
            Self::Random(_) => &[],
        }
    }
}

/// The administrator was not created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`HashError`].
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The random password can't be told, so no account was made with it.
    #[error("{} can't be written: {source}", file.display())]
    PasswordFile {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Bootstrap {
    /// The administrator that the settings ask for; `None` in production without `bootstrap.*`.
    ///
    /// # Errors
    /// The name or the password is not acceptable.
    pub fn new(config: &Config) -> Result<Option<Self>, InvalidBootstrap> {
        let policy = Policy {
            min_length: config.password.min_length,
        };
        match (&config.bootstrap.username, &config.bootstrap.password) {
            (Some(username), Some(password)) => {
                let username = Username::parse(username)?;
                let password = Password::parse(password.clone())?;
                policy.check(&password, &username)?;
                Ok(Some(Self {
                    username,
                    password,
                    generated: None,
                }))
            }
            _ if config.mode == Mode::Dev => {
                let mut bytes = [0; 24];
                getrandom::fill(&mut bytes)?;
                let password = SecretString::from(URL_SAFE_NO_PAD.encode(bytes));
                let file = database::directory(&config.database).join(PASSWORD_FILE);
                let draft = file.with_extension(format!("{:016x}", rand::random::<u64>()));
                Ok(Some(Self {
                    username: Username::parse("admin")?,
                    password: Password::parse(password.clone())?,
                    generated: Some(Generated {
                        password,
                        file,
                        draft,
                    }),
                }))
            }
            _ => Ok(None),
        }
    }

    /// Creates the administrator if there is no user at all. That another instance was faster is no error.
    ///
    /// # Errors
    /// See [`BootstrapError`]; then nothing was created.
    pub async fn run(&self, users: &Users, hash_pool: &HashPool) -> Result<(), BootstrapError> {
        if !users.is_empty().await? {
            return Ok(());
        }
        let hash = hash_pool.hash(&self.password).await?;
        // The file comes first: an account whose password nobody knows could only be deleted.
        let told = self
            .generated
            .as_ref()
            .map(Generated::prepare)
            .transpose()?;
        let username = self.username.as_str().to_owned();
        let new = NewUser {
            username,
            password_hash: Some(hash),
            is_admin: true,
            disabled: false,
        };
        let created = users.insert_first(new).await;
        if let (Ok(None), Some(Told::InFile(draft))) = (&created, &told) {
            let _ = std::fs::remove_file(draft);
        }
        let told = match (told, &self.generated) {
            // Also after an error, after which the user may exist.
            (Some(Told::InFile(_)), Some(generated)) if !matches!(created, Ok(None)) => {
                Some(generated.publish())
            }
            (told, _) => told,
        };
        let Some(user) = created? else { return Ok(()) };
        match told {
            None => tracing::info!(
                user_id = user.id,
                "created the administrator of bootstrap.username"
            ),
            Some(Told::InFile(file)) => {
                tracing::info!(user_id = user.id, file = %file.display(), "created 'admin'; the password is in the file");
            }
            Some(Told::OnTerminal(password)) => say(&password),
        }
        Ok(())
    }
}

enum Told {
    OnTerminal(SecretString),
    InFile(PathBuf),
}

impl Generated {
    fn prepare(&self) -> Result<Told, BootstrapError> {
        if io::stderr().is_terminal() {
            return Ok(Told::OnTerminal(self.password.clone()));
        }
        write_private(&self.draft, self.password.expose_secret()).map_err(|source| {
            BootstrapError::PasswordFile {
                file: self.draft.clone(),
                source,
            }
        })?;
        Ok(Told::InFile(self.draft.clone()))
    }

    /// Gives the file its name, in place of one that an earlier database left here.
    fn publish(&self) -> Told {
        let named = std::fs::rename(&self.draft, &self.file).is_ok();
        // Else the password is where it was, and the log says so.
        let file = if named { &self.file } else { &self.draft };
        Told::InFile(file.clone())
    }
}

/// Writes a file that only its owner can read.
fn write_private(file: &Path, content: &str) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A new file, so that neither its mode nor a link decides who reads the password.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    writeln!(file, "{content}")
}

/// Not by the log, which is kept and shipped: only to the terminal of whoever started the service.
#[expect(
    clippy::print_stderr,
    reason = "a person at the terminal is told a password once; the log must not hold it"
)]
fn say(password: &SecretString) {
    eprintln!(
        "\n  Created the administrator 'admin' with the password  {}\n",
        password.expose_secret()
    );
}
