//! Makes many users of one: copies what the service wrote for the sessions of a user, key by key, for users who never logged
//! in. As many log-ins as there are sessions to be measured with would take hours.
//!
//! All that is known of a session here is which keys it is made of, and where in them its token stands. A database that holds
//! anything else is refused, and so are copies that take other memory than the original. So what they show is true of what the
//! service writes. That their tokens are good, the service says when it checks them.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser;
use claviger_bench::redis_url;
use redis::{Commands as _, Connection};
use sha2::{Digest as _, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Ids that are as long as those of an installation with so many users.
const FIRST_ID: u64 = 1_000_000;

/// Users whose keys are sent in one go.
const BATCH: usize = 100;

/// By how much of the original the memory of a copy may differ: its id has more digits.
const TOLERANCE: f64 = 0.05;

/// Until the server has noticed that a connection was closed.
const LOOKS: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Parser)]
struct Arguments {
    /// A token of the user who is copied. Nobody else may have sessions in the database of `BENCH_REDIS_URL`.
    #[arg(long)]
    token: String,
    /// How many copies.
    #[arg(long)]
    users: usize,
    /// Writes the new tokens into this file, one a line.
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// Repeats them until the file has this many lines.
    #[arg(long, default_value_t = 0, requires = "tokens")]
    lines: usize,
    /// Empties the database at the end.
    #[arg(long)]
    empty: bool,
}

/// A user as the service left him in Redis. Times to live are in milliseconds.
struct Original {
    token: String,
    token_ttl: u64,
    hash: String,
    hash_ttl: u64,
    /// What is between `u:` and `}` in the name of the hash.
    user_id: String,
    generation: String,
    /// Tokens and records of his sessions.
    sessions: Vec<(String, String)>,
}

/// The user of a copy, and the token of each of his sessions.
struct Copy {
    user_id: u64,
    tokens: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let client = redis::Client::open(redis_url()?)?;
    let mut connection = client.get_connection()?;
    let original = Original::read(&mut connection, arguments.token)?;
    let copies = (FIRST_ID..)
        .take(arguments.users)
        .map(|user_id| original.copy(user_id))
        .collect::<Result<Vec<_>>>()?;

    let (clients, before) = (
        info(&mut connection, "clients", "connected_clients")?,
        info(&mut connection, "memory", "used_memory")?,
    );
    // By another connection: what the server has set aside for one that sends this much is not memory of sessions.
    let mut writer = client.get_connection()?;
    for copies in copies.chunks(BATCH) {
        original.write(&mut writer, copies)?;
    }
    for copies in copies.chunks(BATCH) {
        look_at(&mut writer, copies)?;
    }
    drop(writer);
    let mut looks = 0..LOOKS;
    while info(&mut connection, "clients", "connected_clients")? > clients {
        looks.next().ok_or("somebody else uses the server")?;
        thread::sleep(PAUSE);
    }
    let bytes = info(&mut connection, "memory", "used_memory")? - before;
    original.compare(&mut connection, copies.first().ok_or("no users")?)?;

    let tokens: Vec<_> = copies.iter().flat_map(|copy| &copy.tokens).collect();
    println!("sessions {}", tokens.len());
    println!("bytes_per_session {:.0}", bytes / tokens.len() as f64);
    if let Some(path) = arguments.tokens {
        let mut file = BufWriter::new(File::create(path)?);
        write_lines(&mut file, &tokens, arguments.lines.max(tokens.len()))?;
        file.flush()?;
    }
    if arguments.empty {
        redis::cmd("FLUSHDB").exec(&mut connection)?;
    }
    Ok(())
}

impl Original {
    /// Reads what there is.
    ///
    /// # Errors
    ///
    /// If it is anything else than the sessions of one user.
    fn read(connection: &mut Connection, token: String) -> Result<Self> {
        let unknown = |key: &str| format!("the service keeps what this does not know: {key}");
        let user_id: Option<String> = connection.get(&token)?;
        let user_id = user_id.ok_or("the token is not alive")?;
        let mut keys: Vec<String> = connection.keys("*")?;

        let hash_ends = format!(":{{u:{user_id}}}:sessions");
        let place = keys.iter().position(|key| key.ends_with(&hash_ends));
        let hash = keys.swap_remove(place.ok_or("the user has no hash")?);
        // The service tries itself with users whom nobody can be. Only a generation is left of that.
        let (tries, keys): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| key.contains(":{u:-"));
        for key in tries {
            let fields: Vec<String> = connection.hkeys(&key)?;
            if fields != ["g"] {
                return Err(unknown(&key).into());
            }
        }

        // What is left are tokens, each with a record.
        let mut fields: Vec<(String, String)> = connection.hgetall(&hash)?;
        let mut take = |name: &str| {
            let place = fields.iter().position(|(field, _)| field == name)?;
            Some(fields.swap_remove(place).1)
        };
        let generation = take("g").ok_or("the hash of the user has no generation")?;
        let mut sessions = Vec::with_capacity(keys.len());
        for key in keys {
            let record = take(&name_of(&key)).ok_or_else(|| unknown(&key))?;
            let holder: Option<String> = connection.get(&key)?;
            if holder.as_deref() != Some(&user_id) || record.matches(&key).count() != 1 {
                return Err(unknown(&key).into());
            }
            sessions.push((key, record));
        }
        if let Some((field, _)) = fields.first() {
            return Err(unknown(&format!("{field} in {hash}")).into());
        }
        Ok(Self {
            token_ttl: connection.pttl(&token)?,
            token,
            hash_ttl: connection.pttl(&hash)?,
            hash,
            user_id,
            generation,
            sessions,
        })
    }

    fn copy(&self, user_id: u64) -> Result<Copy> {
        let tokens = self.sessions.iter().map(|_| new_token());
        Ok(Copy {
            user_id,
            tokens: tokens.collect::<Result<_>>()?,
        })
    }

    fn hash_of(&self, copy: &Copy) -> String {
        let [old, new] = [&self.user_id, &copy.user_id.to_string()].map(|id| format!("{{u:{id}}}"));
        self.hash.replace(&old, &new)
    }

    fn write(&self, connection: &mut Connection, copies: &[Copy]) -> Result<()> {
        let mut commands = redis::pipe();
        for copy in copies {
            let hash = self.hash_of(copy);
            // One by one, as they come about when people log in.
            commands.hset(&hash, "g", &self.generation).ignore();
            for ((old, record), new) in self.sessions.iter().zip(&copy.tokens) {
                let record = record.replace(old, new);
                commands.hset(&hash, name_of(new), record).ignore();
                let set = commands.cmd("SET").arg(new).arg(copy.user_id);
                set.arg("PX").arg(self.token_ttl).ignore();
            }
            let expire = commands.cmd("PEXPIRE").arg(&hash).arg(self.hash_ttl);
            expire.ignore();
        }
        Ok(commands.exec(connection)?)
    }

    /// Compares the memory of both hashes, and of a token of each.
    fn compare(&self, connection: &mut Connection, copy: &Copy) -> Result<()> {
        let token = copy.tokens.first().ok_or("no sessions")?;
        for (old, new) in [(&self.hash, &self.hash_of(copy)), (&self.token, token)] {
            let mut bytes = |key: &str| {
                let mut command = redis::cmd("MEMORY");
                command.arg("USAGE").arg(key).arg("SAMPLES").arg(0);
                command.query::<f64>(connection)
            };
            let (old_bytes, new_bytes) = (bytes(old)?, bytes(new)?);
            if (new_bytes / old_bytes - 1.0).abs() > TOLERANCE {
                let text = format!("{old} takes {old_bytes} bytes, {new} takes {new_bytes}");
                return Err(text.into());
            }
        }
        Ok(())
    }
}

/// Looks at every key once. So the server has no table left of which it has moved a part only, as it does with each access to
/// one that has grown.
fn look_at(connection: &mut Connection, copies: &[Copy]) -> Result<()> {
    let mut commands = redis::pipe();
    for token in copies.iter().flat_map(|copy| &copy.tokens) {
        commands.pttl(token);
    }
    let lives: Vec<i64> = commands.query(connection)?;
    if lives.iter().any(|life| *life <= 0) {
        return Err("a token that was written is not alive".into());
    }
    Ok(())
}

/// A number that `INFO` tells.
fn info(connection: &mut Connection, section: &str, name: &str) -> Result<f64> {
    let text: String = redis::cmd("INFO").arg(section).query(connection)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.ok_or("INFO lacks a field")?.trim().parse()?)
}

/// One token a line. They come again from the first on until there are `lines`.
fn write_lines(file: &mut impl Write, tokens: &[&String], lines: usize) -> io::Result<()> {
    for token in tokens.iter().cycle().take(lines) {
        writeln!(file, "{token}")?;
    }
    Ok(())
}

/// A token as the service makes them: it looks at the checksum before it asks Redis.
fn new_token() -> Result<String> {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let mut token = format!("clv_{}", URL_SAFE_NO_PAD.encode(random));
    let checksum = crc32fast::hash(token.as_bytes());
    for place in (0..6).rev() {
        let digit = checksum / 62_u32.pow(place) % 62;
        let digit = DIGITS.get(usize::try_from(digit)?).ok_or("no such digit")?;
        token.push(char::from(*digit));
    }
    Ok(token)
}

/// The name of a token's session in the hash of its user.
fn name_of(token: &str) -> String {
    let hash = Sha256::digest(format!("claviger session\0{token}"));
    URL_SAFE_NO_PAD.encode(hash.iter().take(16).copied().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_as_long_as_those_of_the_service() {
        let [one, other] = [new_token().unwrap(), new_token().unwrap()];
        assert_eq!(one.len(), 53);
        assert_ne!(one, other);
    }

    #[test]
    fn tokens_come_again_until_there_are_enough_lines() {
        let tokens = ["a".to_owned(), "b".to_owned()];
        let mut text = Vec::new();
        write_lines(&mut text, &tokens.each_ref(), 3).unwrap();
        assert_eq!(text, b"a\nb\na\n");
    }
}
