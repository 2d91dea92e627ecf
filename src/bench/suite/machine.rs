//! What the figures were measured on, and with what.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use jiff::Timestamp;

use super::{Plan, SuiteError, folder::Folder};

/// A paragraph that goes before a table: when, where, with which programs and by which command.
///
/// # Errors
/// If the folder for data cannot be written to.
pub fn describe(plan: &Plan, folder: &Folder, command: &str) -> Result<String, SuiteError> {
    let sync_us = folder.sync_cost()?.as_micros();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "Measured on {} by `{command}`: {} processors ({}), {} of memory, Linux {}; data on {}, where syncing 4 KiB takes \
         {sync_us} µs. Clique {}{}. {} nodes, repetitions: {}, {} s per run.",
        Timestamp::now().strftime("%Y-%m-%d"),
        std::thread::available_parallelism().map_or(1, usize::from),
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        field("/proc/meminfo", "MemTotal").map_or_else(|| "an unknown amount".to_owned(), |kib| gib(&kib)),
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        file_system(folder.path()),
        env!("CARGO_PKG_VERSION"),
        nats_version(plan).map(|version| format!(", {version}")).unwrap_or_default(),
        plan.nodes,
        plan.repetitions,
        plan.duration.as_secs_f64(),
    );
    if cfg!(debug_assertions) {
        text.push_str("\n**This was a debug build: the figures mean nothing.**\n");
    }
    Ok(text)
}

fn nats_version(plan: &Plan) -> Option<String> {
    let output = Command::new(plan.nats_server.as_ref()?).arg("--version").stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().replace(": v", " "))
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// "16384 kB" in GiB.
fn gib(kib: &str) -> String {
    let kib: f64 = kib.trim_end_matches(" kB").parse().unwrap_or_default();
    format!("{:.0} GiB", kib / f64::from(1 << 20))
}

/// The kind of file system that a path is on: that of the longest mount point that it begins with.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holds = fields.filter(|(point, _)| path.starts_with(point));
    holds.max_by_key(|(point, _)| point.len()).map_or("an unknown file system", |(_, kind)| kind).to_owned()
}
