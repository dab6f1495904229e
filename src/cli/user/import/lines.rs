//! The lines of a file, one at a time.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use zeroize::Zeroizing;

use super::line::{self, MAX_LENGTH, Problem};
use super::{Failure, no_input};
use crate::auth::password::stored::Bounds;
use crate::store::users::ImportedUser;

/// Reads users from a file, as often as it is asked to, with the same outcome.
pub(super) struct Lines {
    reader: BufReader<File>,
    bounds: Bounds,
    number: u64,
    line: Zeroizing<Vec<u8>>,
    /// Of each name that was read a number of 64 bits, to find those that are there twice: of a million names two have the same
    /// by chance once in thirty million files, and then the line is refused though it is good.
    names: HashSet<u64>,
    hasher: RandomState,
}

impl Lines {
    pub(super) fn open(file: &Path, bounds: Bounds) -> Result<Self, Failure> {
        let open = || {
            let opened = File::open(file)?;
            if opened.metadata()?.is_file() {
                Ok(opened)
            } else {
                Err(io::Error::other("is read twice, so it has to be a file"))
            }
        };
        let opened = open().map_err(|error| no_input(file, &error))?;
        Ok(Self {
            reader: BufReader::new(opened),
            bounds,
            number: 0,
            line: Zeroizing::new(Vec::new()),
            names: HashSet::new(),
            hasher: RandomState::new(),
        })
    }

    /// Starts again at the first line.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.number = 0;
        self.names = HashSet::new();
        self.reader.rewind()
    }

    /// The next user or what is wrong with the line, and the line's number. Blank lines are left out.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Result<ImportedUser, Problem>)>> {
        loop {
            self.line.clear();
            let mut limited = self.reader.by_ref().take(MAX_LENGTH + 1);
            if limited.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.line.len() as u64 > MAX_LENGTH {
                self.skip_rest()?;
                return Ok(Some((self.number, Err(Problem::TooLong))));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some((self.number, self.user())));
            }
        }
    }

    fn user(&mut self) -> Result<ImportedUser, Problem> {
        let user = line::parse(&self.line, &self.bounds)?;
        let name = self.hasher.hash_one(&user.username);
        if self.names.insert(name) {
            Ok(user)
        } else {
            Err(Problem::Duplicate)
        }
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        // It may have ended just within what was read.
        if self.line.ends_with(b"\n") {
            return Ok(());
        }
        self.reader.skip_until(b'\n').map(drop)
    }
}
