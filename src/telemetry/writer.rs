//! The thread that writes the log.
//!
//! Whoever logs leaves a line in a buffer and goes on: a stalled terminal or pipe must not stall a login. The thread
//! takes all that has gathered at once, and then rests a moment, so that a busy service pays for one write in a while
//! and not for a wake-up with each line.

use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What may wait to be written, in bytes. Lines beyond it are dropped and counted.
const CAPACITY: usize = 8 << 20;

/// A buffer that grew beyond this while the reader stalled is given back.
const USUAL_CAPACITY: usize = 256 << 10;

/// How long the thread rests after a write. A line that comes after a silence is written at once.
const REST: Duration = Duration::from_millis(5);

/// How long the end of the process waits for a reader that doesn't read.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where lines are left. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LineSink(Arc<Shared>);

/// Keeps the thread going. When it is dropped, what is buffered is written.
#[derive(Debug)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    /// No more lines are to come.
    closed: bool,
    /// All that came is written.
    done: bool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread can't be had.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(LineSink, Self)> {
        let shared = Arc::new(Shared::default());
        let (sink, writer) = (LineSink(Arc::clone(&shared)), Self(Arc::clone(&shared)));
        thread::Builder::new()
            .name("claviger-log".to_owned())
            .spawn(move || shared.write_all(out))?;
        Ok((sink, writer))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut buffer = self.0.lock();
        buffer.closed = true;
        self.0.changed.notify_all();
        let changed = &self.0.changed;
        // A reader that has stalled for good must not keep the process from ending.
        let _ = changed.wait_timeout_while(buffer, FLUSH_TIMEOUT, |buffer| !buffer.done);
    }
}

impl LineSink {
    /// Leaves a line, which ends with a line feed.
    pub(super) fn push(&self, line: &str) {
        let mut buffer = self.0.lock();
        if buffer.lines.len() + line.len() > CAPACITY {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = buffer.lines.is_empty();
        buffer.lines.extend_from_slice(line.as_bytes());
        drop(buffer);
        if first {
            self.0.changed.notify_all();
        }
    }

    /// How many lines were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn write_all(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let waiting = |buffer: &mut Buffer| buffer.lines.is_empty() && !buffer.closed;
            let buffer = self.changed.wait_while(self.lock(), waiting);
            let mut buffer = buffer.unwrap_or_else(PoisonError::into_inner);
            if buffer.lines.is_empty() {
                buffer.done = true;
                self.changed.notify_all();
                return;
            }
            mem::swap(&mut buffer.lines, &mut lines);
            drop(buffer);

            // Nobody is left to be told that the log can't be written.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            lines.clear();
            lines.shrink_to(USUAL_CAPACITY);

            let open = |buffer: &mut Buffer| !buffer.closed;
            let _ = self.changed.wait_timeout_while(self.lock(), REST, open);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Takes a write only when it is let.
    struct Gate {
        entered: SyncSender<()>,
        open: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.entered.send(()).unwrap();
            // An error: nobody will ever let it.
            let _ = self.open.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gated {
        sink: LineSink,
        writer: Writer,
        entered: Receiver<()>,
        open: SyncSender<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    fn gated() -> Gated {
        let (enter, entered) = sync_channel(100);
        let (open, opened) = sync_channel(100);
        let written = Arc::default();
        let gate = Gate {
            entered: enter,
            open: opened,
            written: Arc::clone(&written),
        };
        let (sink, writer) = Writer::start(gate).unwrap();
        Gated {
            sink,
            writer,
            entered,
            open,
            written,
        }
    }

    #[test]
    fn the_end_waits_for_what_is_buffered() {
        let gated = gated();
        gated.sink.push("one\n");
        // The first is being written; the others gather behind it.
        gated.entered.recv().unwrap();
        gated.sink.push("two\n");
        gated.sink.push("three\n");
        assert!(gated.written.lock().unwrap().is_empty());
        for _ in 0..2 {
            gated.open.send(()).unwrap();
        }
        drop(gated.writer);
        assert_eq!(*gated.written.lock().unwrap(), b"one\ntwo\nthree\n");
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_neither_memory_nor_the_end() {
        let gated = gated();
        gated.sink.push("first\n");
        gated.entered.recv().unwrap();
        let line = format!("{}\n", "x".repeat((1 << 20) - 1));
        for _ in 0..10 {
            gated.sink.push(&line);
        }
        assert_eq!(gated.sink.dropped(), 2);
        assert_eq!(gated.sink.0.lock().lines.len(), CAPACITY);
        // Nobody reads, and still this returns.
        drop(gated.writer);
        assert!(gated.written.lock().unwrap().is_empty());
    }
}
