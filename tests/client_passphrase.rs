//! The passphrase of a claimed name: from a setting, and at a terminal without being shown.

mod client_fake;

use std::{io::Write as _, process::Command};

use client_fake::{DEADLINE, FakeNode, Manners, Piped, client};
use rexpect::{
    process::WaitStatus,
    session::{PtySession, spawn_command},
};

const SECRET: &str = "zebra quilt walrus";

fn claimed() -> Manners {
    Manners { claimed: vec![("alice".to_owned(), SECRET.to_owned())], ..Manners::default() }
}

fn at_terminal(mut command: Command) -> PtySession {
    command.env("TERM", "xterm").args(["--name", "alice", "--node", "0"]);
    spawn_command(command, u64::try_from(DEADLINE.as_millis()).ok()).unwrap()
}

fn press(terminal: &mut PtySession, keys: &str) {
    terminal.send(keys).unwrap();
    terminal.flush().unwrap();
}

/// Waits for some text and gives everything before it.
fn until(terminal: &mut PtySession, text: &str) -> String {
    terminal.exp_string(text).unwrap()
}

/// None of the secret's words was shown.
fn is_hidden(shown: &str) -> bool {
    !SECRET.split(' ').any(|word| shown.contains(word))
}

#[test]
fn scripts_give_the_passphrase_by_variable_or_file() {
    let node = FakeNode::start(0, claimed());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{SECRET}").unwrap();
    let script = |set: &dyn Fn(&mut Command) -> &mut Command| {
        let mut command = client(&[&node]);
        set(command.args(["--name", "alice", "--format", "json"]));
        Piped::start(&mut command)
    };
    let mut by_variable = script(&|command| command.env("CLIQUE_PASSPHRASE", SECRET));
    by_variable.line_with(&[r#""state":"registered","name":"alice""#, r#""claimed":true"#]);
    assert_eq!(node.hear_registration().passphrase, SECRET);
    assert_eq!(by_variable.end(), 0);
    let mut by_file = script(&|command| command.arg("--passphrase-file").arg(file.path()));
    assert_eq!(by_file.end(), 0);
    assert_eq!(node.hear_registration().passphrase, SECRET);

    let mut without = script(&|command| command);
    without.line_with(&[r#""state":"name_refused""#, r#""why":"passphrase_wanted""#]);
    assert_eq!(without.exit_code(), 4);
    let mut wrong = script(&|command| command.env("CLIQUE_PASSPHRASE", "something else"));
    wrong.line_with(&[r#""state":"name_refused""#, r#""why":"passphrase_wrong""#]);
    assert_eq!(wrong.exit_code(), 4);
    let file_too = ["--passphrase-file", "/x"];
    assert_eq!(script(&|command| command.env("CLIQUE_PASSPHRASE", SECRET).args(file_too)).exit_code(), 2);
    assert_eq!(script(&|command| command.args(["--passphrase-file", "/nowhere/at/all"])).exit_code(), 2);
}

#[test]
fn too_many_guesses_are_waited_for() {
    let node = FakeNode::start(0, Manners { too_many_guesses_ms: Some(50), ..claimed() });
    let mut command = client(&[&node]);
    command.args(["--name", "alice", "--node", "0", "--format", "json"]).env("CLIQUE_PASSPHRASE", SECRET);
    let mut client = Piped::start(&mut command);
    client.line_with(&[r#""why":"too_many_guesses","retry_after_ms":50"#]);
    client.line_with(&[r#""state":"registered""#]);
    assert_eq!(client.end(), 0);
}

#[test]
fn the_passphrase_is_shown_to_the_next_node_too() {
    let (first, second) = (FakeNode::start(0, claimed()), FakeNode::start(1, claimed()));
    let mut command = client(&[&first, &second]);
    command.args(["--name", "alice", "--node", "0", "--format", "json"]).env("CLIQUE_PASSPHRASE", SECRET);
    let mut client = Piped::start(&mut command);
    client.line_with(&[r#""state":"registered""#, r#""node":0"#]);
    first.die();
    assert_eq!(second.hear_registration().passphrase, SECRET);
    assert_eq!(client.end(), 0);
}

#[test]
fn a_name_that_is_claimed_here_opens_on_the_next_node() {
    let (first, second) = (FakeNode::start(0, Manners::default()), FakeNode::start(1, claimed()));
    let mut command = client(&[&first, &second]);
    command.args(["--name", "alice", "--node", "0", "--format", "json"]);
    let mut client = Piped::start(&mut command);
    assert_eq!(first.hear_registration().passphrase, "");
    client.type_line("/claim");
    client.line_with(&["say the passphrase too"]);
    client.type_line(&format!("/claim {SECRET}"));
    client.line_with(&[r#"{"event":"claimed""#]);
    first.die();
    assert_eq!(second.hear_registration().passphrase, SECRET);
    client.line_with(&[r#""state":"registered","name":"alice""#, r#""node":1"#]);
    assert_eq!(client.end(), 1, "one line could not be carried out");
}

#[test]
fn a_terminal_asks_for_the_passphrase_and_shows_nothing_of_it() {
    for color in [true, false] {
        let node = FakeNode::start(0, claimed());
        let mut command = client(&[&node]);
        if !color {
            command.env("NO_COLOR", "1");
        }
        let mut terminal = at_terminal(command);
        until(&mut terminal, "the name alice is claimed");
        until(&mut terminal, "Passphrase of alice");
        press(&mut terminal, "zebra quilt marlin\r");
        let shown = until(&mut terminal, "that is not the passphrase of alice");
        assert!(is_hidden(&shown), "{shown:?}");
        until(&mut terminal, "Passphrase of alice");
        press(&mut terminal, "zebra qiult");
        press(&mut terminal, "\x17quilt walrus\r");
        let shown = until(&mut terminal, "welcome, ");
        assert!(is_hidden(&shown), "{shown:?}");
        node.hear_registration();
        node.hear_registration();
        assert_eq!(node.hear_registration().passphrase, SECRET);
        // Only what is typed from now on is shown and remembered.
        until(&mut terminal, "alice> ");
        press(&mut terminal, "bobby hello\r");
        assert_eq!(node.hear_message().2, "hello");
    }
}

#[test]
fn after_three_wrong_passphrases_the_client_ends_and_another_name_may_be_taken_before() {
    let node = FakeNode::start(0, claimed());
    let mut terminal = at_terminal(client(&[&node]));
    for _ in 0..3 {
        until(&mut terminal, "Passphrase of alice");
        press(&mut terminal, "a guess\r");
    }
    until(&mut terminal, "none of 3 passphrases was that of alice");
    terminal.exp_eof().unwrap();
    assert!(matches!(terminal.process().wait(), Ok(WaitStatus::Exited(_, 4))));

    let mut terminal = at_terminal(client(&[&node]));
    until(&mut terminal, "Passphrase of alice");
    press(&mut terminal, "\r");
    until(&mut terminal, "Enter your name");
    press(&mut terminal, "alicia\r");
    until(&mut terminal, "alicia> ");
}

#[test]
fn claim_alone_asks_twice_while_the_conversation_goes_on() {
    let node = FakeNode::start(0, Manners::default());
    let mut terminal = at_terminal(client(&[&node]));
    until(&mut terminal, "alice> ");
    for (second, end) in [("zebra quilt marlin", "the two are not the same"), (SECRET, "alice> ")] {
        press(&mut terminal, "/claim\r");
        until(&mut terminal, "Passphrase: ");
        press(&mut terminal, &format!("{SECRET}\r"));
        let shown = until(&mut terminal, "The same again: ");
        assert!(is_hidden(&shown), "{shown:?}");
        if second == SECRET {
            node.deliver(11, "carol", "alice", "an interruption");
            until(&mut terminal, "an interruption");
        }
        press(&mut terminal, &format!("{second}\r"));
        let shown = until(&mut terminal, end);
        assert!(is_hidden(&shown), "{shown:?}");
    }
    assert_eq!(node.hear_command(), format!("claim {SECRET}"));
}

#[test]
fn a_line_with_a_passphrase_cannot_be_recalled() {
    let node = FakeNode::start(0, Manners::default());
    let mut terminal = at_terminal(client(&[&node]));
    until(&mut terminal, "alice> ");
    press(&mut terminal, "bobby hello\r");
    node.hear_message();
    press(&mut terminal, &format!("/claim {SECRET}\r"));
    assert_eq!(node.hear_command(), format!("claim {SECRET}"));
    press(&mut terminal, "\x1b[A again\r");
    assert_eq!(node.hear_message().2, "hello again");
}
