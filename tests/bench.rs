//! The load generator against a whole clique: every workload arrives once and in order. No speed is asserted.

use std::{
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Long enough for any machine; only there so that a test that hangs ends.
const DEADLINE: Duration = Duration::from_secs(60);

/// `clique up --nodes 3` on ports that were free.
struct Up {
    process: Child,
    nodes: String,
}

impl Up {
    fn start() -> Self {
        let ports = three_ports();
        let list = |text: &dyn Fn(u16) -> String| ports.map(text).join(",");
        let process = Command::new(env!("CARGO_BIN_EXE_clique"))
            .args(["up", "--nodes", "3", "--ports", &list(&|port| port.to_string())])
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let up = Self { process, nodes: list(&|port| format!("127.0.0.1:{port}")) };
        let end = Instant::now() + DEADLINE;
        while !up.bench(&["connect", "--clients", "3"]).status.success() {
            assert!(Instant::now() < end, "the clique does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        up
    }

    fn bench(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_clique"))
            .arg("bench")
            .args(args)
            .args(["--nodes", &self.nodes, "--format", "json", "--drain-ms", "60000"])
            .output()
            .unwrap()
    }

    /// Runs a workload that must succeed; its report.
    fn report(&self, args: &[&str]) -> Value {
        let output = self.bench(args);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        for fault in ["loss", "duplicates", "disorder", "corrupt", "misrouted"] {
            assert_eq!(report["verified"][fault], 0, "{report}");
        }
        assert_eq!(report["verified"]["ok"], true, "{report}");
        assert!(output.status.success(), "{report}");
        report
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Chat ports with the two after each free too, for a node takes three in a row.
fn three_ports() -> [u16; 3] {
    let mut held = Vec::new();
    let mut free = Vec::new();
    while free.len() < 3 {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let rest = [1, 2].map(|offset| TcpListener::bind(("127.0.0.1", port.saturating_add(offset))));
        let is_free = rest.iter().all(Result::is_ok);
        held.push(first);
        held.extend(rest.into_iter().flatten());
        if is_free {
            free.push(port);
        }
    }
    [free[0], free[1], free[2]]
}

#[test]
fn every_workload_arrives_once_and_in_order() {
    let up = Up::start();
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");

    for dialect in ["frames", "extended"] {
        let report = up.report(&["direct", "--messages", "20000", "--dialect", dialect]);
        assert_eq!((&report["sent"], &report["delivered"]), (&20_000.into(), &20_000.into()), "{report}");
        assert_eq!(report["dialect"], dialect);
    }
    let report = up.report(&["spread", "--messages", "8001", "--size-bytes", "16", "--threads", "2"]);
    assert_eq!((&report["senders"], &report["delivered"]), (&8.into(), &8_001.into()), "{report}");

    let report = up.report(&["broadcast", "--duration-s", "0.5", "--recipients", "30", "--size-bytes", "1000"]);
    let sent = report["sent"].as_u64().unwrap();
    assert!(sent > 0);
    assert_eq!(report["delivered"], sent * 30, "{report}");

    for in_flight in ["1", "64"] {
        let report = up.report(&["durable", "--in-flight", in_flight, "--messages", "300"]);
        assert_eq!((&report["acknowledged"], &report["delivered"]), (&300.into(), &300.into()), "{report}");
    }
    let report = up.report(&["spread", "--acknowledged", "--messages", "4000"]);
    assert_eq!((&report["acknowledged"], &report["delivered"]), (&4_000.into(), &4_000.into()), "{report}");
    assert_eq!(report["verified"]["unacknowledged"], 0, "{report}");

    let latency = ["latency", "--rate-per-s", "2000", "--messages", "1000", "--warmup-ms", "100"];
    let report = up.report(&[&latency[..], &["--plot", plot.to_str().unwrap()]].concat());
    assert_eq!((&report["sent"], &report["latency"]["samples"]), (&1_000.into(), &800.into()), "{report}");
    assert!(std::fs::read_to_string(&plot).unwrap().contains("</svg>"));

    let report = up.report(&["connect", "--clients", "60"]);
    assert_eq!((&report["connect"]["clients"], &report["delivered"]), (&60.into(), &600.into()), "{report}");

    let report = up.report(&["idle", "--clients", "60", "--settle-ms", "100"]);
    assert_eq!(report["resources"]["pids"], serde_json::json!([up.process.id()]));
}

/// Does a whole measurement, of the clique only, in its shortest form; what it has written.
fn measured(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("benchmarks.md");
    let output = Command::new(env!("CARGO_BIN_EXE_clique"))
        .arg("bench")
        .args(args)
        .args(["--quick", "--without-nats", "--nodes", "2", "--duration-s", "0.1"])
        .args(["--data", folder.path().to_str().unwrap(), "--out", document.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().starts_with("benchmarks")), "left behind: {left:?}");
    std::fs::read_to_string(document).unwrap()
}

/// The rows of the table that begin with a word.
fn rows<'a>(text: &'a str, word: &str) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    text.lines().filter(|line| line.starts_with(&format!("| {word}"))).map(cells).collect()
}

#[test]
fn a_comparison_measures_every_goal_of_ours() {
    let text = measured(&["compare"]);
    for word in ["direct", "spread", "broadcast", "latency", "processor", "memory", "durable"] {
        let rows = rows(&text, word);
        assert!(!rows.is_empty() && rows.iter().all(|row| row[2] != "–" && row[3] == "–"), "{word}: {rows:?}");
    }
}

#[test]
fn failures_are_measured_on_both_kinds() {
    let text = measured(&["failover", "--cut-ms", "50"]);
    let (killed, cut) = (rows(&text, "Clique, kept"), rows(&text, "50 ms"));
    assert!(killed.len() == 1 && killed[0][1] != "never", "{killed:?}");
    assert_eq!(cut, [["50 ms", "0", "0"]]);
}

#[test]
fn growth_is_measured_step_by_step() {
    let text = measured(&["growth", "--steps-size-bytes", "16,1000"]);
    for step in ["16 ", "1\u{202f}000 ", "10 ", "50 ", "2 "] {
        let rows = rows(&text, step);
        assert!(!rows.is_empty() && rows.iter().flatten().all(|cell| *cell != "–"), "{step}: {rows:?}");
    }
    assert!(text.contains("](benchmarks-nodes-1.svg)"), "{text}");
}

#[test]
fn nobody_there_and_settings_that_cannot_be_used_are_told() {
    let bench = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_clique")).arg("bench").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, said) = bench(&["direct", "--nodes", &free]);
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot be reached"), "{said}");
    let (code, said) = bench(&["direct", "--size-bytes", "1"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--size-bytes is 1"), "{said}");
}
