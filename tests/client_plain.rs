//! The client between pipes: what scripts and bots rely on.

mod client_fake;

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use client_fake::{FakeNode, Manners, Piped, client, origin};
use clique::wire::extended::{Receipt, State};

#[test]
fn lines_in_are_messages_out_and_the_end_of_input_waits_for_their_answers() {
    let node = FakeNode::start(0, Manners::default());
    let mut client = Piped::start(client(&[&node]).args(["--name", "alice"]));
    assert_eq!(node.hear_registration().name, "alice");
    client.type_line("bob hello there");
    client.type_line("/who");
    assert_eq!(node.hear_message(), (1, "bob".to_owned(), "hello there".to_owned()));
    client.line_with(&["* you asked for who"]);
    node.deliver(11, "bob", "alice", "hi");
    node.deliver(12, "bob", "*", "all\nof you");
    assert_eq!(client.line_with(&["bob"]), "bob: hi");
    assert_eq!(client.line_with(&["bob"]), "bob to *: all\u{240a}of you");
    assert_eq!(client.end(), 0);
}

#[test]
fn input_that_was_there_before_the_connection_is_sent_and_answered() {
    let node = FakeNode::start(0, Manners::default());
    let mut client = Piped::start(client(&[&node]).args(["--name", "alice"]));
    client.type_line("/nodes");
    client.type_line("* one");
    client.type_line("* two");
    assert_eq!(client.end(), 0);
    assert_eq!(node.hear_message().2, "one");
    assert_eq!(node.hear_message().2, "two");
    assert_eq!(client.rest(), ["* you asked for nodes"]);
}

#[test]
fn json_tells_everything_one_object_per_line() {
    let node = FakeNode::start(0, Manners::default());
    let mut client = Piped::start(client(&[&node]).args(["--name", "alice", "--format", "json"]));
    client.line_with(&[r#""event":"connection","state":"registered","name":"alice""#, r#""node":0"#]);
    client.line_with(&[r#""event":"presence","snapshot":true"#, r#"{"name":"bobby","node":1}"#]);
    client.type_line(r#"{"to":"bob","text":"two\nlines"}"#);
    client.line_with(&[r#"{"event":"sent","reference":1,"to":"bob","text":"two\nlines","time":""#]);
    client.line_with(&[r#"{"event":"receipt","reference":1,"state":"delivered","id":"0.1/"#, r#""recipients":1"#]);
    assert_eq!(node.hear_message().2, "two\nlines");
    node.deliver(11, "bob", "alice", "hi");
    let message = client.line_with(&[r#"{"event":"message","id":"0.1/11","from":"bob","to":"alice","text":"hi""#]);
    assert!(message.contains(r#""time":"2023-11-14T22:13:20Z""#), "{message}");
    assert_eq!(client.end(), 0);
}

#[test]
fn a_refused_message_is_told_and_makes_the_exit_code_1() {
    let refused = Receipt {
        state: State::Refused.into(),
        reason: "not sent: nobody called zed is here".to_owned(),
        ..Receipt::default()
    };
    let node = FakeNode::start(0, Manners { receipt: Some(refused), ..Manners::default() });
    let mut client = Piped::start(client(&[&node]).args(["--name", "alice"]));
    client.type_line("zed hi");
    client.line_with(&["* not sent: nobody called zed is here"]);
    assert_eq!(client.end(), 1);
}

#[test]
fn a_node_that_never_answers_keeps_nobody() {
    let node = FakeNode::start(0, Manners { is_silent: true, ..Manners::default() });
    let mut client = Piped::start(client(&[&node]).args(["--name", "alice"]));
    client.type_line("bob hi");
    node.hear_message();
    let begin = Instant::now();
    assert_eq!(client.end(), 1);
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
}

#[test]
fn when_its_node_dies_it_goes_on_at_the_next_from_where_it_was() {
    let first = FakeNode::start(0, Manners::default());
    let second = FakeNode::start(1, Manners::default());
    let nodes = [&first, &second];
    let mut client = Piped::start(client(&nodes).args(["--name", "alice", "--node", "0", "--format", "json"]));
    let register = first.hear_registration();
    assert!(register.resume.is_none());
    first.deliver(11, "bob", "alice", "one");
    client.line_with(&[r#""text":"one""#]);
    let begin = Instant::now();
    first.die();
    client.line_with(&[r#""state":"lost""#]);
    client.line_with(&[r#""state":"registered""#, r#""node":1"#, r#""resumed":true"#]);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());

    let again = second.hear_registration();
    assert_eq!((again.name, again.session_key), (register.name, register.session_key));
    let heights = again.resume.unwrap().heights;
    assert_eq!(heights.len(), 1);
    assert_eq!((heights[0].origin, heights[0].height), (Some(origin(0)), 11));
    client.type_line("bob still here");
    assert_eq!(second.hear_message().2, "still here");
    assert_eq!(client.end(), 0);
}

#[test]
fn a_message_whose_answer_was_lost_is_not_sent_again_and_its_fate_is_called_unknown() {
    let first = FakeNode::start(0, Manners { is_silent: true, ..Manners::default() });
    let second = FakeNode::start(1, Manners::default());
    let nodes = [&first, &second];
    let mut client = Piped::start(client(&nodes).args(["--name", "alice", "--node", "0", "--format", "json"]));
    client.type_line("bob once");
    first.hear_message();
    first.die();
    client.line_with(&[r#""state":"registered""#, r#""node":1"#]);
    // The next node might have known more, but says nothing.
    client.line_with(&[r#""reference":1,"state":"unknown""#]);
    client.type_line("bob another");
    assert_eq!(second.hear_message(), (2, "bob".to_owned(), "another".to_owned()));
    assert_eq!(client.end(), 1);
}

#[test]
fn a_node_that_has_gone_silent_is_left() {
    let first = FakeNode::start(0, Manners { is_frozen: true, ..Manners::default() });
    let second = FakeNode::start(1, Manners::default());
    let mut client =
        Piped::start(client(&[&first, &second]).args(["--name", "alice", "--node", "0", "--format", "json"]));
    client.line_with(&[r#""state":"registered""#, r#""node":0"#]);
    client.line_with(&[r#""state":"lost","reason":"it did not answer in time""#]);
    client.line_with(&[r#""state":"registered""#, r#""node":1"#]);
    assert_eq!(client.end(), 0);
}

#[test]
fn a_name_that_somebody_took_meanwhile_is_varied() {
    let first = FakeNode::start(0, Manners::default());
    let second = FakeNode::start(1, Manners { taken: vec!["alice".to_owned()], ..Manners::default() });
    let mut client =
        Piped::start(client(&[&first, &second]).args(["--name", "alice", "--node", "0", "--format", "json"]));
    client.line_with(&[r#""state":"registered""#, r#""node":0"#]);
    first.die();
    client.line_with(&[r#""state":"registered","name":"alice-2""#, r#""node":1"#]);
    assert_eq!(client.end(), 0);
}

#[test]
fn what_is_typed_while_no_node_is_there_is_sent_to_the_next_one() {
    let first = FakeNode::start(0, Manners::default());
    let later = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = later.local_addr().unwrap().to_string();
    drop(later);
    let mut command = client(&[&first]);
    command.env("CLIQUE_NODES", format!("{},{address}", first.address));
    let mut client = Piped::start(command.args(["--name", "alice", "--node", "0", "--format", "json"]));
    client.line_with(&[r#""state":"registered""#]);
    first.die();
    client.line_with(&[r#""state":"lost""#]);
    client.type_line("bob patience");
    client.line_with(&[r#""event":"sent""#, "patience"]);
    let second = FakeNode::start_at(1, &address, Manners::default());
    assert_eq!(second.hear_message().2, "patience");
    client.line_with(&[r#""state":"delivered""#]);
    assert_eq!(client.end(), 0);
}

#[test]
fn nothing_is_shown_twice() {
    let node = FakeNode::start(0, Manners::default());
    let mut client = Piped::start(client(&[&node]).args(["--name", "alice"]));
    node.hear_registration();
    client.type_line("/ready");
    client.line_with(&["ready"]);
    for number in [11, 11, 12] {
        node.deliver(number, "bob", "alice", &format!("number {number}"));
    }
    assert_eq!(client.line_with(&["bob"]), "bob: number 11");
    assert_eq!(client.line_with(&["bob"]), "bob: number 12");
    assert_eq!(client.end(), 0);
}

#[test]
fn it_stays_after_the_input_has_ended_if_it_is_told_to() {
    let node = FakeNode::start(0, Manners::default());
    let mut client = Piped::start(client(&[&node]).args(["--name", "alice", "--stay"]));
    client.type_line("bob hi");
    drop(client.input.take());
    node.hear_message();
    node.deliver(11, "bob", "alice", "hi yourself");
    assert_eq!(client.line_with(&["bob"]), "bob: hi yourself");
    assert!(client.child.try_wait().unwrap().is_none());
}

#[test]
fn exit_codes_say_what_was_wrong() {
    let node = FakeNode::start(0, Manners { taken: vec!["alice".to_owned()], ..Manners::default() });
    let code = |args: &[&str]| Piped::start(client(&[&node]).args(args)).exit_code();
    assert_eq!(code(&["--name", "two words"]), 2);
    assert_eq!(code(&["--name", "bob", "--node", "7"]), 2);
    assert_eq!(code(&["--name", "alice"]), 4);
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = client(&[]);
    command.env("CLIQUE_NODES", nowhere.to_string());
    assert_eq!(Piped::start(command.args(["--name", "bob"])).exit_code(), 3);
}
