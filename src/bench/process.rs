//! What the nodes' processes use, from `/proc`: memory and processor time.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    net::{SocketAddr, ToSocketAddrs as _},
};

/// Ticks of `/proc/PID/stat` per second: 100 wherever Linux runs, whatever the kernel's own clock.
const TICKS_PER_S: u64 = 100;
/// State of a socket that listens, in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// Processes whose use is read together.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    pub pids: Vec<u32>,
}

/// What processes use or have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub resident_bytes: u64,
    pub cpu_us: u64,
}

impl Processes {
    /// Those given, or else those that listen at these addresses on this machine.
    #[must_use]
    pub fn of(pids: &[u32], addresses: &[String]) -> Self {
        if !pids.is_empty() {
            return Self { pids: pids.to_vec() };
        }
        // Ports of another machine say nothing about the processes of this one.
        let here = addresses.iter().flat_map(|address| address.to_socket_addrs().into_iter().flatten());
        let ports: HashSet<u16> =
            here.filter(|address| address.ip().is_loopback()).map(|at| SocketAddr::port(&at)).collect();
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        let sockets: HashSet<String> =
            tables.iter().flat_map(|table| listeners(table, &ports)).map(|inode| format!("socket:[{inode}]")).collect();
        Self { pids: if sockets.is_empty() { Vec::new() } else { holders(&sockets) } }
    }

    /// Use of all of them; `None` if one is gone or there is none.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let mut all = Usage::default();
        for pid in &self.pids {
            let usage = usage(&pid.to_string())?;
            all.resident_bytes += usage.resident_bytes;
            all.cpu_us += usage.cpu_us;
        }
        (!self.pids.is_empty()).then_some(all)
    }
}

/// Use of the generator itself.
#[must_use]
pub fn own_usage() -> Option<Usage> {
    usage("self")
}

fn usage(pid: &str) -> Option<Usage> {
    let resident_bytes = resident_bytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
    let cpu_us = cpu_us(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(Usage { resident_bytes, cpu_us })
}

/// Processes that have one of these sockets open; of other users' processes that cannot be seen.
fn holders(sockets: &HashSet<String>) -> Vec<u32> {
    let mut pids = BTreeSet::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target))) {
            pids.insert(pid);
        }
    }
    pids.into_iter().collect()
}

/// Inodes of sockets that listen on one of the ports.
fn listeners<'a>(table: &'a str, ports: &'a HashSet<u16>) -> impl Iterator<Item = &'a str> {
    table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, port) = fields.nth(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let is_listening = fields.nth(1)? == LISTENING;
        (is_listening && ports.contains(&port)).then(|| fields.nth(5)).flatten()
    })
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn cpu_us(stat: &str) -> Option<u64> {
    // The name before it may have blanks and brackets of its own.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * (1_000_000 / TICKS_PER_S))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3456 1 0 100 0 0 10 0\n   \
            1: 0100007F:0FA0 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 3457 1 0 100 0 0 10 0\n   \
            2: 0100007F:0FAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3458 1 0 100 0 0 10 0\n";
        assert_eq!(listeners(table, &[4_000].into()).collect::<Vec<_>>(), ["3456"]);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   123 kB\n"), Some(123 * 1024));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 3 0 100 0 0";
        assert_eq!(cpu_us(stat), Some(420_000));
        assert_eq!(cpu_us("nothing"), None);
    }

    #[test]
    fn a_process_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let processes = Processes::of(&[], &[listener.local_addr().unwrap().to_string()]);
        assert_eq!(processes.pids, [std::process::id()]);
        assert!(processes.usage().unwrap().resident_bytes > 100_000);
        assert_eq!(Processes::of(&[], &[]).usage(), None);
        assert_eq!(Processes::of(&[5, 6], &[]).pids, [5, 6]);
    }
}
