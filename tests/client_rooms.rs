//! The client between pipes: rooms, history, and what is settled only after its node has died.

mod client_fake;

use client_fake::{FakeNode, Manners, Piped, client, origin};
use clique::wire::extended::{Delivery, FromNode, MessageId, Receipt, Registration, State};

fn accepted() -> Receipt {
    Receipt { state: State::Accepted.into(), nodes_holding: 1, nodes_known: 2, ..Receipt::default() }
}

#[test]
fn messages_to_rooms_go_out_and_come_in_as_text_and_as_json() {
    let node = FakeNode::start(0, Manners { rooms: vec!["#ship".to_owned()], ..Manners::default() });
    let mut text = Piped::start(client(&[&node]).args(["--name", "alice"]));
    text.type_line("#ship ahoy");
    assert_eq!(node.hear_message(), (1, "#ship".to_owned(), "ahoy".to_owned()));
    text.type_line("/join #tea");
    assert_eq!(node.hear_command(), "join #tea");
    node.deliver(11, "bob", "#ship", "aye");
    assert_eq!(text.line_with(&["bob"]), "bob to #ship: aye");
    assert_eq!(text.end(), 0);
    let mut json = Piped::start(client(&[&node]).args(["--name", "alice", "--format", "json"]));
    json.line_with(&[r##"{"event":"rooms","rooms":[{"name":"#ship","topic":""}]}"##]);
    assert_eq!(json.end(), 0);
}

#[test]
fn history_is_asked_for_with_a_setting_and_shown_with_its_time() {
    let node = FakeNode::start(0, Manners::default());
    let mut text = Piped::start(client(&[&node]).env("TZ", "UTC").args(["--name", "alice", "--history", "5"]));
    assert_eq!(node.hear_registration().history, 5);
    let said = |number, marks| node.deliver_as(number, "bob", "*", &format!("number {number}"), marks);
    said(5, Delivery { history: true, ..Delivery::default() });
    said(6, Delivery { from_split: true, replayed: true, ..Delivery::default() });
    assert_eq!(text.line_with(&["bob"]), "bob to * [2023-11-14 22:13]: number 5");
    assert_eq!(text.line_with(&["bob"]), "bob to * [2023-11-14 22:13, from the split]: number 6");
    assert_eq!(text.end(), 0);
    let mut json = Piped::start(client(&[&node]).args(["--name", "alice", "--format", "json"]));
    assert_eq!(node.hear_registration().history, 0);
    json.line_with(&[r#""event":"rooms""#]);
    node.deliver_as(5, "bob", "*", "old", Delivery { history: true, ..Delivery::default() });
    json.line_with(&[r#""text":"old""#, r#""replayed":false,"history":true,"from_split":false"#]);
    assert_eq!(json.end(), 0);
    assert_eq!(Piped::start(client(&[&node]).args(["--name", "alice", "--history", "501"])).exit_code(), 2);
}

#[test]
fn history_does_not_move_the_point_from_which_the_next_node_goes_on() {
    let first = FakeNode::start(0, Manners::default());
    let second = FakeNode::start(1, Manners::default());
    let mut client =
        Piped::start(client(&[&first, &second]).args(["--name", "alice", "--node", "0", "--format", "json"]));
    first.hear_registration();
    client.line_with(&[r#""event":"rooms""#]);
    first.deliver_as(30, "bob", "*", "old", Delivery { history: true, ..Delivery::default() });
    client.line_with(&[r#""text":"old""#]);
    first.deliver(11, "bob", "alice", "new");
    client.line_with(&[r#""text":"new""#]);
    first.die();
    let resume = second.hear_registration().resume.unwrap();
    assert_eq!((resume.heights[0].origin, resume.heights[0].height), (Some(origin(0)), 11));
    assert_eq!(resume.registration, Some(Registration { time: 7, node: 0 }));
    // What was shown as history is received now, and shown: a script may have left it alone.
    client.line_with(&[r#""state":"registered""#, r#""node":1"#]);
    let id = |number| Some(MessageId { origin: Some(origin(0)), number });
    for number in [11, 30] {
        let replayed = Delivery { id: id(number), replayed: true, from: "bob".to_owned(), ..Delivery::default() };
        second.say(&FromNode::Delivery(replayed));
    }
    client.line_with(&[r#""id":"0.1/30""#, r#""replayed":true"#]);
    assert_eq!(client.end(), 0);
    assert!(!client.rest().iter().any(|line| line.contains("0.1/11")), "it was received before");
}

#[test]
fn a_node_that_does_not_know_one_is_asked_for_the_rooms_and_shows_no_history_twice() {
    let first = FakeNode::start(0, Manners { rooms: vec!["#ship".to_owned()], ..Manners::default() });
    let second = FakeNode::start(1, Manners { forgets: true, ..Manners::default() });
    let nodes = [&first, &second];
    let mut client =
        Piped::start(client(&nodes).args(["--name", "alice", "--node", "0", "--format", "json", "--history", "20"]));
    client.line_with(&["#ship"]);
    first.deliver(11, "bob", "#ship", "seen");
    client.line_with(&[r#""text":"seen""#]);
    first.die();
    assert_eq!(second.hear_registration().history, 20);
    assert_eq!(second.hear_command(), "join #ship");
    client.line_with(&[r#""state":"registered""#, r#""resumed":false"#]);
    for (number, text) in [(11, "seen"), (12, "missed")] {
        let id = Some(MessageId { origin: Some(origin(0)), number });
        let text = text.as_bytes().to_vec();
        second.say(&FromNode::Delivery(Delivery { id, history: true, text, ..Delivery::default() }));
    }
    assert!(client.line_with(&[r#""event":"message""#]).contains("missed"), "what was seen is not shown again");
    assert_eq!(client.end(), 0);
}

#[test]
fn receipts_name_people_and_go_on_at_the_next_node() {
    let first = FakeNode::start(0, Manners { receipt: Some(accepted()), ..Manners::default() });
    let second = FakeNode::start(1, Manners::default());
    let nodes = [&first, &second];
    let mut client = Piped::start(client(&nodes).args(["--name", "alice", "--node", "0", "--format", "json"]));
    client.type_line("bob hello");
    client.line_with(&[r#""reference":1,"state":"accepted""#]);
    first.die();
    let unsettled = second.hear_registration().resume.unwrap().unsettled;
    assert_eq!(unsettled.len(), 1);
    assert_eq!((unsettled[0].reference, unsettled[0].id.unwrap().origin), (1, Some(origin(0))));
    client.line_with(&[r#""state":"registered""#, r#""node":1"#]);
    second.say(&FromNode::Receipt(Receipt {
        reference: 1,
        state: State::Delivered.into(),
        id: unsettled[0].id,
        recipients: 1,
        recipients_names: vec!["bob".to_owned()],
        ..Receipt::default()
    }));
    client.line_with(&[r#""reference":1,"state":"delivered""#, r#""recipients":1,"recipients_names":["bob"]"#]);
    assert_eq!(client.end(), 0);
}

#[test]
fn what_was_not_answered_may_be_answered_by_the_next_node() {
    let first = FakeNode::start(0, Manners { is_silent: true, ..Manners::default() });
    let second = FakeNode::start(1, Manners::default());
    let nodes = [&first, &second];
    let mut client = Piped::start(client(&nodes).args(["--name", "alice", "--node", "0", "--format", "json"]));
    client.type_line("bob once");
    first.hear_message();
    first.die();
    client.line_with(&[r#""state":"registered""#, r#""node":1"#]);
    let id = Some(MessageId { origin: Some(origin(0)), number: 40 });
    second.say(&FromNode::Receipt(Receipt { reference: 1, id, ..accepted() }));
    client.line_with(&[r#""reference":1,"state":"accepted""#]);
    assert_eq!(client.end(), 0);
    assert!(!client.rest().iter().any(|line| line.contains("unknown")), "it is known");
}
