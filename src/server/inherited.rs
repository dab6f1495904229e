//! Listeners that somebody else has opened, and keeps open while this process is replaced.

use std::io;

use listenfd::ListenFd;
use tokio::net::TcpListener;

/// What was passed to this process by the protocol of systemd's socket activation (`sd_listen_fds(3)`).
pub struct Inherited(ListenFd);

impl Inherited {
    /// Reads `LISTEN_FDS` and `LISTEN_PID`, and removes them: to be called once, before there are threads.
    pub fn from_process() -> Self {
        Self(ListenFd::from_env())
    }

    /// Takes the listener at a position, if so many were passed. To be called in the runtime.
    ///
    /// # Errors
    /// What was passed there is no TCP socket.
    pub fn take(&mut self, position: usize) -> io::Result<Option<TcpListener>> {
        let Some(listener) = self.0.take_tcp_listener(position)? else {
            return Ok(None);
        };
        // Whoever opened it may have left it blocking, which would block the runtime.
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Some)
    }
}
