//! The client at a real terminal.

mod client_fake;

use std::process::Command;

use client_fake::{DEADLINE, FakeNode, Manners, client};
use rexpect::session::{PtySession, spawn_command};

const UP: &str = "\x1b[A";
const CTRL_D: char = 'd';

fn at_terminal(mut command: Command) -> PtySession {
    command.env("TERM", "xterm");
    let timeout_ms = u64::try_from(DEADLINE.as_millis()).ok();
    spawn_command(command, timeout_ms).unwrap()
}

/// Sends keys as they are, without a line's end.
fn press(terminal: &mut PtySession, keys: &str) {
    terminal.send(keys).unwrap();
    terminal.flush().unwrap();
}

fn named(nodes: &[&FakeNode], name: &str) -> PtySession {
    let mut command = client(nodes);
    command.args(["--name", name, "--node", "0"]);
    let mut terminal = at_terminal(command);
    terminal.exp_string("welcome, ").unwrap();
    terminal.exp_string("> ").unwrap();
    terminal
}

#[test]
fn it_asks_for_the_node_and_the_name_and_says_where_one_is() {
    let nodes = [FakeNode::start(0, Manners::default()), FakeNode::start(1, Manners::default())];
    let mut terminal = at_terminal(client(&[&nodes[0], &nodes[1]]));
    terminal.exp_string("Enter index port to connect to [0-1]:").unwrap();
    press(&mut terminal, "7\r");
    terminal.exp_string("a number from 0 to 1").unwrap();
    terminal.exp_string("Enter index port to connect to [0-1]:").unwrap();
    press(&mut terminal, "1\r");
    terminal.exp_string("Enter your name").unwrap();
    press(&mut terminal, "two words\r");
    terminal.exp_string("a name cannot contain white space").unwrap();
    terminal.exp_string("Enter your name").unwrap();
    press(&mut terminal, "alice\r");
    terminal.exp_string("you are on node 1").unwrap();
    assert_eq!(nodes[1].hear_registration().name, "alice");
    terminal.exp_string("alice> ").unwrap();
    terminal.send_control(CTRL_D).unwrap();
    terminal.exp_eof().unwrap();
}

#[test]
fn enter_alone_is_the_nearest_node_and_a_made_up_name() {
    let node = FakeNode::start(0, Manners::default());
    let mut terminal = at_terminal(client(&[&node]));
    terminal.exp_string("Enter index port to connect to [0-0]:").unwrap();
    press(&mut terminal, "\r");
    terminal.exp_string("the nearest is node 0").unwrap();
    terminal.exp_string("Enter your name").unwrap();
    press(&mut terminal, "\r");
    terminal.exp_string("welcome, ").unwrap();
    assert!(node.hear_registration().name.contains('-'));
}

#[test]
fn a_taken_name_is_asked_again() {
    let node = FakeNode::start(0, Manners { taken: vec!["alice".to_owned()], ..Manners::default() });
    let mut command = client(&[&node]);
    command.args(["--name", "alice", "--node", "0"]);
    let mut terminal = at_terminal(command);
    terminal.exp_string("the name alice is taken").unwrap();
    terminal.exp_string("Enter your name").unwrap();
    press(&mut terminal, "alicia\r");
    terminal.exp_string("alicia> ").unwrap();
}

#[test]
fn what_is_being_typed_survives_what_comes_in_and_a_change_of_node() {
    let first = FakeNode::start(0, Manners::default());
    let second = FakeNode::start(1, Manners::default());
    let mut terminal = named(&[&first, &second], "alice");
    press(&mut terminal, "bobby half a sen");
    terminal.exp_string("half a sen").unwrap();
    first.deliver(11, "carol", "alice", "an interruption");
    terminal.exp_string("an interruption").unwrap();
    // The line is there again after it.
    terminal.exp_string("half a sen").unwrap();
    first.die();
    terminal.exp_string("you are on node 1 now").unwrap();
    terminal.exp_string("half a sen").unwrap();
    press(&mut terminal, "tence\r");
    assert_eq!(second.hear_message().2, "half a sentence");
    terminal.exp_string("to bobby: delivered in").unwrap();
}

#[test]
fn tab_completes_names_and_up_recalls_lines() {
    let node = FakeNode::start(0, Manners::default());
    let mut terminal = named(&[&node], "alice");
    press(&mut terminal, "bo\thello\r");
    let (_, to, text) = node.hear_message();
    assert_eq!((to.as_str(), text.as_str()), ("bobby", "hello"));
    terminal.exp_string("delivered in").unwrap();
    press(&mut terminal, UP);
    press(&mut terminal, " again\r");
    assert_eq!(node.hear_message().2, "hello again");
}

#[test]
fn pasted_lines_are_one_message() {
    let node = FakeNode::start(0, Manners::default());
    let mut terminal = named(&[&node], "alice");
    press(&mut terminal, "bobby \x1b[200~one\ntwo\x1b[201~");
    press(&mut terminal, "\r");
    assert_eq!(node.hear_message().2, "one\ntwo");
}

#[test]
fn help_is_one_screen_with_the_keys_and_quit_leaves() {
    let node = FakeNode::start(0, Manners::default());
    let mut terminal = named(&[&node], "alice");
    press(&mut terminal, "/help\r");
    terminal.exp_string("everyone in the clique").unwrap();
    terminal.exp_string("completes names, rooms and commands").unwrap();
    press(&mut terminal, "/who\r");
    terminal.exp_string("you asked for who").unwrap();
    press(&mut terminal, "/quit\r");
    terminal.exp_eof().unwrap();
}
