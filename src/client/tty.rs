//! What the terminal itself does with what is typed.

use std::{io, os::fd::AsFd as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Until it is dropped the terminal itself shows nothing of what is typed: before the editor begins, and on a terminal that
/// is too simple for the editor.
pub struct NoEcho {
    found: Option<Termios>,
}

impl NoEcho {
    pub fn begin() -> Self {
        let found = tcgetattr(io::stdin().as_fd()).ok();
        if let Some(mut quiet) = found.clone() {
            quiet.local_flags.remove(LocalFlags::ECHO);
            quiet.local_flags.insert(LocalFlags::ECHONL);
            // A terminal that is gone shows nothing.
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &quiet);
        }
        Self { found }
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        if let Some(found) = &self.found {
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, found);
        }
    }
}

/// Gives the terminal back as it was found, whatever happens: the editor may be in the middle of a line.
pub struct TerminalGuard {
    found: Option<Termios>,
}

impl TerminalGuard {
    pub fn new() -> Self {
        Self { found: tcgetattr(io::stdin().as_fd()).ok() }
    }

    /// Ends what the editor began: raw mode, and the marking of pasted text.
    pub fn restore(&self) {
        if let Some(found) = &self.found {
            let changed = tcgetattr(io::stdin().as_fd()).is_ok_and(|now| now.local_flags != found.local_flags);
            // If the terminal itself is gone there is nothing to give back.
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, found);
            if changed {
                let _ = io::Write::write_all(&mut io::stdout(), b"\x1b[?2004l\r\n");
                let _ = io::Write::flush(&mut io::stdout());
            }
        }
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        self.restore();
    }
}
