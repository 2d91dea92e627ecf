//! The program as a process: started with settings, signalled, watched, and never left behind.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::eventually;

/// Lines of output shown when a test fails.
const SHOWN_LINES: usize = 60;

/// A running `clique …`.
pub struct Process {
    label: String,
    child: Child,
    /// Standard output and standard error.
    output: [Arc<Mutex<String>>; 2],
    readers: Vec<JoinHandle<()>>,
}

/// A command with a clean environment, but for the settings given. Nodes keep nothing on the disk unless they say where.
pub fn command(arguments: &[&str], settings: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clique"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("CLIQUE_") || name.starts_with("OTEL_"));
        if ours {
            command.env_remove(name);
        }
    }
    command.env("CLIQUE_DATA", ":memory:");
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command
}

impl Process {
    pub fn spawn(label: &str, arguments: &[&str], settings: &[(String, String)]) -> Self {
        Self::of(label, command(arguments, settings))
    }

    /// One that is not allowed more than so many open files.
    pub fn spawn_with_files(label: &str, files: u32, arguments: &[&str], settings: &[(String, String)]) -> Self {
        let command = command(arguments, settings);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]).stdin(Stdio::null());
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Self::of(label, shell)
    }

    fn of(label: &str, mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be started");
        let output: [Arc<Mutex<String>>; 2] = Default::default();
        let readers =
            vec![collect(child.stdout.take().unwrap(), &output[0]), collect(child.stderr.take().unwrap(), &output[1])];
        Self { label: label.to_owned(), child, output, readers }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).expect("the process runs");
    }

    /// Ends it the hard way.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let label = self.label.clone();
        let status = eventually(&format!("{label} ends"), || self.child.try_wait().unwrap());
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has written to standard output so far.
    pub fn out(&self) -> String {
        self.output[0].lock().unwrap().clone()
    }

    /// What it has logged so far, or complained of.
    pub fn err(&self) -> String {
        self.output[1].lock().unwrap().clone()
    }

    /// Waits until it has said this, wherever.
    pub fn wait_for_output(&self, part: &str) {
        let says = |output: &Arc<Mutex<String>>| output.lock().unwrap().contains(part);
        eventually(&format!("{} says: {part}", self.label), || self.output.iter().any(says).then_some(()));
    }

    /// Memory in use, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let logged = self.err();
        if thread::panicking() {
            let lines: Vec<&str> = logged.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
            println!("---- {} ----\n{shown}", self.label);
        } else {
            assert!(!logged.contains("panicked at"), "{} has panicked:\n{logged}", self.label);
        }
    }
}

fn collect(stream: impl Read + Send + 'static, output: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let output = output.clone();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            output.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
