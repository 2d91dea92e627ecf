use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
}

fn parsed(line: &str, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let args = Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).unwrap().bench;
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    match bench(&args, &environment)? {
        BenchTask::Run(settings) => Ok(*settings),
        BenchTask::Suite(plan) => panic!("no single workload: {plan:?}"),
    }
}

#[test]
fn whole_measurements_have_plans() {
    let plan = |line: &str| {
        let args = Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).unwrap().bench;
        match bench(&args, &HashMap::new()) {
            Ok(BenchTask::Suite(plan)) => Ok(*plan),
            Ok(BenchTask::Run(settings)) => panic!("one workload: {settings:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    let compare = plan("compare").unwrap();
    assert_eq!((compare.nodes, compare.repetitions, compare.duration), (5, 5, Duration::from_secs(5)));
    assert!(compare.nats_server.is_some() && matches!(compare.kind, Kind::Compare));
    let quick = plan("failover --quick --without-nats --cut-ms 20").unwrap();
    assert_eq!((quick.repetitions, quick.nats_server), (1, None));
    assert!(matches!(quick.kind, Kind::Failover { cuts } if cuts == [Duration::from_millis(20)]));
    let Kind::Growth(steps) = plan("growth --steps-entries 0,5").unwrap().kind else { panic!("no growth") };
    assert_eq!((steps.entries, steps.nodes.len()), (vec![0, 5], 6));
    assert!(plan("growth --steps-nodes 0").unwrap_err().contains("--steps-nodes is 0"));
    assert!(plan("compare --duration-s 0").unwrap_err().contains("--duration-s is 0"));
}

#[test]
fn defaults_measure_the_clique_of_up() {
    let settings = parsed("direct", &[]).unwrap();
    assert_eq!((settings.nodes.len(), settings.speech, settings.json), (5, Speech::Frames, false));
    assert_eq!(parsed("direct", &[("CLIQUE_NODES", "a:1,b:2")]).unwrap().nodes, ["a:1", "b:2"]);
    let nats = parsed("direct --target nats", &[("CLIQUE_NODES", "a:1,b:2")]).unwrap();
    assert_eq!((nats.nodes, nats.speech), (vec![DEFAULT_NATS.to_owned()], Speech::Nats));
}

#[test]
fn what_cannot_be_used_is_refused() {
    let text = |line: &str| parsed(line, &[]).unwrap_err().to_string();
    assert_eq!(text("direct --size-bytes 15"), "--size-bytes is 15, but goes from 16 to 32640");
    assert_eq!(text("spread --senders 0"), "--senders is 0, but goes from 1 to 4095");
    assert!(text("latency --duration-s NaN").starts_with("--duration-s, in ms, is 0,"));
    assert!(text("connect --nodes localhost").contains("localhost is not host:port"));
    assert!(text("idle --nodes ,").contains("not host:port"));
    assert!(text("direct --acknowledged --target nats").contains("durable"));
}

#[test]
fn acknowledgements_are_asked_for_by_those_who_can() {
    let speeches = |line: &str| {
        let settings = parsed(line, &[]).unwrap();
        (settings.speech, settings.sender_speech, settings.stream_replicas)
    };
    assert_eq!(speeches("direct"), (Speech::Frames, Speech::Frames, None));
    assert_eq!(speeches("direct --acknowledged"), (Speech::Frames, Speech::Extended, None));
    assert_eq!(speeches("durable --in-flight 1"), (Speech::Frames, Speech::Extended, None));
    assert_eq!(speeches("durable --target nats"), (Speech::Nats, Speech::JetStream, Some(3)));
}

#[test]
fn several_senders_share_the_rate() {
    let settings = parsed("latency --senders 4 --rate-per-s 500 --messages 9", &[]).unwrap();
    let Workload::Traffic(traffic) = settings.workload else { panic!("no traffic") };
    assert_eq!(traffic.shape, Shape::Spread { senders: 4 });
    assert!(matches!(traffic.pace, Pace::Rate { per_s: 500, .. }));
    assert!(matches!(traffic.limit, Limit::Messages(9)));
    assert_eq!(settings.workload.name(), "latency");
}
