//! The scripts: what has to be one step on the keys of one slot. They are read as `EVALSHA`, and sent whole only to a server that
//! does not know them yet.

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind};

/// A script and the name under which a server keeps it.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

/// All scripts but that of the check.
pub(super) struct Scripts {
    /// Tells the generation of a user's sessions.
    pub(super) generation: Script,
    /// Notes a session.
    pub(super) index: Script,
    /// Compares once more, after the token's key was written.
    pub(super) confirm: Script,
    /// Gives a token its whole life.
    pub(super) live: Script,
    /// Ends a token.
    pub(super) remove: Script,
    /// Marks a session as ending.
    pub(super) mark: Script,
    /// Begins to end all sessions of a user.
    pub(super) revoke: Script,
    /// Notes that a session was in use.
    pub(super) touch: Script,
    /// A step of an attempt to log in.
    pub(super) attempts: Script,
    /// Counts a failure from a network, or tells of it.
    pub(super) failures: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            generation: Script::new(include_str!("scripts/generation.lua")),
            index: Script::new(include_str!("scripts/index.lua")),
            confirm: Script::new(include_str!("scripts/confirm.lua")),
            live: Script::new(include_str!("scripts/live.lua")),
            remove: Script::new(include_str!("scripts/remove.lua")),
            mark: Script::new(include_str!("scripts/mark.lua")),
            revoke: Script::new(include_str!("scripts/revoke.lua")),
            touch: Script::new(include_str!("scripts/touch.lua")),
            attempts: Script::new(include_str!("scripts/attempts.lua")),
            failures: Script::new(include_str!("scripts/failures.lua")),
        }
    }
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        Self {
            code,
            hash: redis::Script::new(code).get_hash().to_owned(),
        }
    }

    /// Runs it on the server that has the slot of `keys`.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &[&str],
        arguments: &[&str],
    ) -> RedisResult<T> {
        let known = self.command(keys, arguments).query_async(connection).await;
        match known {
            // After a restart, a fail-over or `SCRIPT FLUSH`.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.whole(keys, arguments).query_async(connection).await
            }
            result => result,
        }
    }

    /// The command that runs it on a server that knows it.
    pub(super) fn command(&self, keys: &[&str], arguments: &[&str]) -> Cmd {
        Self::invocation("EVALSHA", &self.hash, keys, arguments)
    }

    /// The command that runs it on a server that does not know it, and from then on does.
    pub(super) fn whole(&self, keys: &[&str], arguments: &[&str]) -> Cmd {
        Self::invocation("EVAL", self.code, keys, arguments)
    }

    fn invocation(command: &str, script: &str, keys: &[&str], arguments: &[&str]) -> Cmd {
        let mut command = redis::cmd(command);
        command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
        command
    }
}
