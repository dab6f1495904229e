//! Which key a command is about, and where an answer sends it.

use redis::{Arg, Cmd, RedisResult, Value};

use super::failure::unexpected;
use super::place::Address;
use super::slots;

/// Commands that are about no key.
const KEYLESS: [&[u8]; 5] = [b"INFO", b"PING", b"ROLE", b"SCAN", b"TIME"];

/// The first key of a command, of those that this service knows; all keys of one command are in one slot, or [`Parts`] takes it
/// apart.
pub(super) fn key_of(command: &Cmd) -> Option<&[u8]> {
    let name = argument(command, 0)?;
    if KEYLESS.contains(&name) {
        return None;
    }
    argument(command, if is_script(name) { 3 } else { 1 })
}

fn is_script(name: &[u8]) -> bool {
    name == b"EVAL" || name == b"EVALSHA"
}

fn argument(command: &Cmd, index: usize) -> Option<&[u8]> {
    match command.args_iter().nth(index)? {
        Arg::Simple(argument) => Some(argument),
        _ => None,
    }
}

/// A command on several keys, taken apart: a cluster takes it only if they are all in one slot.
pub(super) struct Parts {
    /// One for each key.
    pub(super) commands: Vec<Cmd>,
    sums: bool,
}

impl Parts {
    /// `None` if there is nothing to be taken apart.
    pub(super) fn of(command: &Cmd) -> Option<Self> {
        let (single, sums) = match argument(command, 0)? {
            b"DEL" => ("DEL", true),
            b"MGET" => ("GET", false),
            _ => return None,
        };
        let commands: Vec<Cmd> = (1..)
            .map_while(|index| argument(command, index))
            .map(|key| {
                let mut part = redis::cmd(single);
                part.arg(key);
                part
            })
            .collect();
        (commands.len() > 1).then_some(Self { commands, sums })
    }

    /// What the whole command would have been answered.
    pub(super) fn together(&self, answers: Vec<Value>) -> RedisResult<Value> {
        if !self.sums {
            let mut values = Vec::with_capacity(answers.len());
            for answer in answers {
                values.push(match answer {
                    Value::ServerError(error) if error.code() == "WRONGTYPE" => Value::Nil,
                    answer => answer.extract_error()?,
                });
            }
            return Ok(Value::Array(values));
        }
        let mut sum = 0;
        for answer in answers {
            match answer.extract_error()? {
                Value::Int(count) => sum += count,
                _ => return Err(unexpected("the answer is no number")),
            }
        }
        Ok(Value::Int(sum))
    }
}

/// An answer that sends us to another server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) address: Address,
    /// The slot has not moved for good yet: only this command goes there.
    pub(super) ahead: bool,
}

impl Redirect {
    /// What `answer` of the server at `asked` says.
    pub(super) fn of(answer: &Value, asked: &Address) -> Option<Self> {
        let Value::ServerError(error) = answer else {
            return None;
        };
        let ahead = match error.code() {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let place = error.details()?.split_ascii_whitespace().nth(1)?;
        let (host, port) = place.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = slots::address(host, port.parse().ok()?, asked)?;
        Some(Self { address, ahead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address {
            host: host.to_owned(),
            port,
        }
    }

    fn command(words: &[&str]) -> Cmd {
        let mut command = Cmd::new();
        command.arg(words);
        command
    }

    fn error(code: &str, detail: &str) -> Value {
        let error = redis::make_extension_error(code.to_owned(), Some(detail.to_owned()));
        let errors = error.into_server_errors().unwrap();
        Value::ServerError(errors[0].1.clone())
    }

    #[test]
    fn the_key_of_a_command_is_found() {
        let key = |words: &[&str]| key_of(&command(words)).map(<[u8]>::to_vec);
        assert_eq!(key(&["GET", "a"]), Some(b"a".to_vec()));
        assert_eq!(key(&["HSET", "a", "b", "c"]), Some(b"a".to_vec()));
        assert_eq!(
            key(&["EVALSHA", "hash", "1", "a", "b"]),
            Some(b"a".to_vec())
        );
        assert_eq!(key(&["EVAL", "code", "2", "a", "b"]), Some(b"a".to_vec()));
        assert_eq!(key(&["INFO", "memory"]), None);
        assert_eq!(key(&["PING"]), None);
    }

    #[test]
    fn a_command_on_several_keys_is_taken_apart_and_its_answers_are_put_together() {
        assert!(Parts::of(&command(&["DEL", "a"])).is_none());
        assert!(Parts::of(&command(&["HDEL", "a", "b", "c"])).is_none());

        let parts = Parts::of(&command(&["DEL", "a", "b", "c"])).unwrap();
        let keys: Vec<_> = parts
            .commands
            .iter()
            .map(|part| key_of(part).unwrap())
            .collect();
        assert_eq!(keys, [b"a", b"b", b"c"]);
        let answers = vec![Value::Int(1), Value::Int(0), Value::Int(1)];
        assert_eq!(parts.together(answers), Ok(Value::Int(2)));
        let refused = vec![Value::Int(1), error("READONLY", "no")];
        assert_eq!(
            parts.together(refused).unwrap_err().code(),
            Some("READONLY")
        );

        let parts = Parts::of(&command(&["MGET", "a", "b", "c"])).unwrap();
        let text = Value::BulkString(b"1".to_vec());
        let answers = vec![text.clone(), Value::Nil, error("WRONGTYPE", "a hash")];
        let whole = Value::Array(vec![text, Value::Nil, Value::Nil]);
        assert_eq!(parts.together(answers), Ok(whole));
    }

    #[test]
    fn a_redirection_is_read() {
        let redirect = |code, detail| Redirect::of(&error(code, detail), &at("me", 1));
        let to = |host, port, ahead| {
            let address = at(host, port);
            Some(Redirect { address, ahead })
        };
        assert_eq!(
            redirect("MOVED", "3999 127.0.0.1:6381"),
            to("127.0.0.1", 6381, false)
        );
        assert_eq!(redirect("ASK", "3999 ::1:6381"), to("::1", 6381, true));
        assert_eq!(redirect("MOVED", "3999 :6381"), to("me", 6381, false));
        assert_eq!(redirect("MOVED", "3999"), None);
        assert_eq!(redirect("ERR", "3999 127.0.0.1:6381"), None);
        assert_eq!(Redirect::of(&Value::Okay, &at("me", 1)), None);
    }
}
