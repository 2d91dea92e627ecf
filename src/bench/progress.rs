//! The progress bar: on standard error, and only if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Says what is being waited for, until the bar is dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar that is full at `length`.
    #[must_use]
    pub fn new(length: u64, title: &str) -> Self {
        // indicatif draws nothing where standard error is no terminal.
        let bar = ProgressBar::new(length);
        let style = ProgressStyle::with_template("{prefix:>10} {bar:30} {percent:>3} %  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(title.to_owned());
        Self(bar)
    }

    /// So far, and what to say about it.
    pub fn set(&self, position: u64, message: String) {
        self.0.set_message(message);
        self.0.set_position(position);
    }

    /// One more.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
