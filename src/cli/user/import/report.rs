//! What an import tells while it runs, and of what is wrong.

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// The lines that are named; of the others only how many they are is said.
const MAX_NAMED: usize = 20;

/// Where nobody watches, how often it is said how far the import is.
const LINES_PER_REPORT: u64 = 100_000;

/// Lines with what is wrong with them.
#[derive(Default)]
pub(super) struct Problems {
    named: Vec<String>,
    count: u64,
}

impl Problems {
    pub(super) fn add(&mut self, line: u64, problem: &dyn fmt::Display) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push(format!("line {line}: {problem}"));
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for named in &self.named {
            write!(formatter, "\n  {named}")?;
        }
        match self.count - self.named.len() as u64 {
            0 => Ok(()),
            more => write!(formatter, "\n  and {more} more"),
        }
    }
}

/// Says on standard error how far a reading is: in one line that changes at a terminal, else in few lines.
pub(super) struct Progress {
    done: &'static str,
    terminal: bool,
    next: u64,
    shown: bool,
}

impl Progress {
    pub(super) fn new(done: &'static str) -> Self {
        Self {
            done,
            terminal: io::stderr().is_terminal(),
            next: 0,
            shown: false,
        }
    }

    pub(super) fn at(&mut self, line: u64) {
        let every = if self.terminal {
            LINES_PER_REPORT / 100
        } else {
            LINES_PER_REPORT
        };
        if line < self.next.max(every) {
            return;
        }
        self.next = line - line % every + every;
        let done = self.done;
        let _ = if self.terminal {
            write!(io::stderr(), "\rclaviger: {done} {line} lines")
        } else {
            writeln!(io::stderr(), "claviger: {done} {line} lines")
        };
        self.shown = true;
    }

    /// What comes next begins a line of its own.
    pub(super) fn end(&self) {
        if self.terminal && self.shown {
            let _ = writeln!(io::stderr());
        }
    }
}

pub(super) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "claviger: warning: {text}");
}
