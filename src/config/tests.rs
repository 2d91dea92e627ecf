use std::io::Write as _;

use super::*;
use crate::{clique::Keep, node::store::Sync};

fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn settings(pairs: &[(&str, &str)]) -> Result<NodeSettings, ConfigError> {
    let mut pairs = pairs.to_vec();
    if pairs.iter().all(|(name, _)| *name != "CLIQUE_INDEX") {
        pairs.push(("CLIQUE_INDEX", "1"));
    }
    node(&NodeArgs::default(), &environment(&pairs)).map(|config| config.node)
}

#[test]
fn by_default_a_node_takes_three_ports_on_loopback_and_knows_the_four_others() {
    let node = settings(&[]).unwrap();
    assert_eq!((node.chat_port, node.peer_port, node.http_port), (4010, 4011, 4012));
    assert!(node.listen.is_loopback());
    assert_eq!(node.peers, ["127.0.0.1:4001", "127.0.0.1:4021", "127.0.0.1:4031", "127.0.0.1:4041"]);
    assert_eq!((node.expected_nodes, node.advertise.as_str()), (5, "127.0.0.1:4011"));
    assert_eq!((node.max_log_bytes, node.drain_ms), (64 << 20, 5_000));
    let store = node.store.unwrap();
    assert_eq!((store.directory, store.sync), ("./clique-data/node-1".into(), Sync::Always));
    assert_eq!(node.keep, Keep { max_age_ms: 30 * 86_400_000, max_bytes: 1 << 30 });
}

#[test]
fn the_log_is_in_memory_or_where_it_is_said() {
    let memory = settings(&[("CLIQUE_DATA", ":memory:")]).unwrap();
    assert!(memory.store.is_none());
    assert_eq!(memory.max_log_bytes, 256 << 20);
    let pairs = [("CLIQUE_DATA", "/data"), ("CLIQUE_SYNC", "interval:50"), ("CLIQUE_KEEP_DAYS", "0")];
    let node = settings(&[&pairs[..], &[("CLIQUE_KEEP_MIB", "7"), ("CLIQUE_LOG_MIB", "3")]].concat()).unwrap();
    let store = node.store.unwrap();
    assert_eq!((store.directory, store.node, store.max_tail_bytes), ("/data".into(), 1, 3 << 20));
    assert_eq!(store.sync, Sync::Interval(std::time::Duration::from_millis(50)));
    assert_eq!(node.keep, Keep { max_age_ms: 0, max_bytes: 7 << 20 });
    let up = up(&NodeArgs::default(), 2, &environment(&[("CLIQUE_DATA", "/data"), ("CLIQUE_SYNC", "never")])).unwrap();
    let stores: Vec<_> = up.nodes.into_iter().map(|node| node.store.unwrap()).collect();
    assert_eq!(stores[1].directory, std::path::Path::new("/data/node-1"));
    assert_eq!((stores[0].node, stores[0].sync), (0, Sync::Never));
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "index = 2\nports = [5000, 5010, 5020]\nlog_mib = 7\ndrain_ms = 1").unwrap();
    let mut args = NodeArgs { drain_ms: Some("3".into()), ..NodeArgs::default() };
    args.common.config = Some(file.path().to_owned());
    let config = node(&args, &environment(&[("CLIQUE_DRAIN_MS", "2"), ("CLIQUE_LOG_MIB", "8")])).unwrap();
    let node = config.node;
    assert_eq!((node.chat_port, node.drain_ms, node.max_log_bytes), (5020, 3, 8 << 20));
}

#[test]
fn a_file_with_a_misspelt_key_is_refused_with_the_key() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "index = 0\nlog_mb = 7").unwrap();
    let mut args = NodeArgs::default();
    args.common.config = Some(file.path().to_owned());
    let error = node(&args, &environment(&[])).unwrap_err().to_string();
    assert!(error.contains("log_mb"), "{error}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let cases: [(&[(&str, &str)], &str); 13] = [
        (&[("CLIQUE_SYNC", "sometimes")], "CLIQUE_SYNC is sometimes"),
        (&[("CLIQUE_SYNC", "interval:0")], "goes from 1"),
        (&[("CLIQUE_INDEX", "5")], "from 0 to 4"),
        (&[("CLIQUE_INDEX", "two")], "two is no index"),
        (&[("CLIQUE_PORTS", "4000,4000")], "used twice"),
        (&[("CLIQUE_CLIENT_OUTPUT_KIB", "1")], "CLIQUE_CLIENT_OUTPUT_KIB"),
        (&[("CLIQUE_PORTS", "4000,x")], "x is not a port"),
        (&[("CLIQUE_PORTS", "4000,4001")], "used twice"),
        (&[("CLIQUE_LISTEN", "everywhere")], "everywhere is not an address"),
        (&[("CLIQUE_LOG_MIB", "0")], "CLIQUE_LOG_MIB"),
        (&[("CLIQUE_KEEP_DAYS", "ever")], "keep_days"),
        (&[("CLIQUE_SECRET", "a"), ("CLIQUE_SECRET_FILE", "/b")], "set one of them"),
        (&[("CLIQUE_SECRET_FILE", "/nowhere/at/all")], "/nowhere/at/all cannot be read"),
    ];
    for (pairs, part) in cases {
        let error = settings(pairs).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_secret_is_text_even_if_it_looks_like_a_number() {
    let secrets = [("0042", "0042"), ("0042", "42")].map(|(ours, theirs)| {
        let handshake = |secret: &str, nonce| {
            let secret = settings(&[("CLIQUE_SECRET", secret)]).unwrap().secret;
            crate::clique::Handshake::dialer(secret, [nonce; 32])
        };
        handshake(ours, 1).prove(&[9; 32]).unwrap() == handshake(theirs, 1).prove(&[9; 32]).unwrap()
    });
    assert_eq!(secrets, [true, false]);
}

#[test]
fn listed_peers_may_name_the_node_itself() {
    let node = settings(&[("CLIQUE_PEERS", "a:1,b:2,c"), ("CLIQUE_ADVERTISE", "b:2")]).unwrap();
    assert_eq!(node.peers, ["a:1", "c:4011"]);
    assert_eq!(node.expected_nodes, 3);
    let by_name = settings(&[("CLIQUE_PEERS", "clique.local:4001")]).unwrap();
    assert_eq!((by_name.peers.len(), by_name.expected_nodes), (1, 1));
}

#[test]
fn the_index_is_asked_for_until_it_is_one() {
    let mut output = Vec::new();
    let index = ask_index(5, &mut "x\n5\n3\n".as_bytes(), &mut output).unwrap();
    assert_eq!(index, 3);
    let asked = String::from_utf8(output).unwrap();
    assert_eq!(asked.matches("Choose an index [0-4] :").count(), 3);
    assert!(ask_index(5, &mut "".as_bytes(), &mut Vec::new()).is_err());
}

#[test]
fn a_clique_in_one_process_has_as_many_ports_as_nodes() {
    let config = up(&NodeArgs::default(), 7, &environment(&[])).unwrap();
    let ports: Vec<u16> = config.nodes.iter().map(|node| node.chat_port).collect();
    assert_eq!(ports, [4000, 4010, 4020, 4030, 4040, 4050, 4060]);
    assert!(config.nodes.iter().all(|node| node.peers.len() == 6 && node.secret.is_set()));
    assert!(up(&NodeArgs::default(), 0, &environment(&[])).is_err());
    assert!(up(&NodeArgs::default(), 2, &environment(&[("CLIQUE_PORTS", "65530")])).is_err());
}
