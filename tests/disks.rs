//! Nodes and their disks, as processes: damage, loss, a disk that is full, what is kept no longer, and what is beyond memory.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clique::{
    node::hub::{History, Overview},
    wire::extended::{Delivery, FromNode, Height, Register, Resume, State},
};
use common::{
    cliques::Clique,
    eventually,
    extended::Extended,
    lines::Lines,
    process::{Process, command},
};
use serde_json::Value;
use tempfile::TempDir;

const PASSPHRASE: &str = "zebra quilt walrus";
/// Messages that are under way at a time.
const WINDOW: usize = 100;
const MIB: u64 = 1 << 20;

/// Nodes with a directory each.
struct Place {
    clique: Clique,
    folder: TempDir,
}

impl Place {
    fn of(count: usize, settings: &[(&str, u64)]) -> Self {
        let clique = settings.iter().fold(Clique::new(count), |clique, (name, value)| clique.with(name, value));
        let mut place = Self { clique, folder: tempfile::tempdir().unwrap() };
        (0..count).for_each(|index| place.start(index));
        place.clique.wait_whole();
        place
    }

    fn directory(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("node-{index}"))
    }

    fn start(&mut self, index: usize) {
        let data = self.directory(index).display().to_string();
        self.clique.start_with(index, &[("CLIQUE_DATA", data)]);
    }

    fn restart_hard(&mut self, index: usize) {
        self.clique.kill(index);
        self.start(index);
    }

    /// `clique status`: its exit code and what it says.
    fn status(&self, index: usize) -> (Option<i32>, Overview) {
        let address = self.clique.ports(index).http().to_string();
        let mut process = Process::spawn("clique status", &["status", "--json", "--node", &address], &[]);
        let code = process.wait().code();
        let out = process.out();
        (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{}", process.err())))
    }

    /// Waits until a node finds that all is well and that all histories are equal.
    fn wait_well(&self, index: usize) {
        let mut last = None;
        eventually(&format!("all is well, as node {index} sees it"), || {
            let (code, overview) = self.status(index);
            let is_well = code == Some(0) && overview.histories == History::Equal && is_level(&overview);
            if !is_well && last.as_ref() != Some(&overview.alarms) {
                println!("{code:?} {:?} {:?}", overview.histories, overview.alarms);
                last = Some(overview.alarms);
            }
            is_well.then_some(())
        });
    }

    /// Stops all nodes in order; gives what each directory holds, which must be sound.
    fn stop_and_verify(&mut self, count: usize) -> Vec<Kept> {
        (0..count).for_each(|index| assert!(self.clique.terminate(index).success()));
        (0..count).map(|index| verify(&self.directory(index))).collect()
    }
}

/// Whether no node lacks anything.
fn is_level(overview: &Overview) -> bool {
    overview.nodes.iter().all(|node| node.lacks == 0 && node.damaged == 0)
}

/// By node and incarnation: first entry kept, height, bytes, hash.
type Kept = BTreeMap<(u64, u64), (u64, u64, u64, String)>;

/// What a directory holds, where it holds anything; fails if it is not sound.
fn verify(directory: &Path) -> Kept {
    let output = command(&["verify", "--json", directory.to_str().unwrap()], &[]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["sound"], true, "{text}");
    let number = |origin: &Value, key: &str| origin[key].as_u64().unwrap();
    let kept = |origin: &Value| {
        let what = (number(origin, "first"), number(origin, "height"), number(origin, "bytes"));
        let hash = origin["hash"].as_str().unwrap_or_default().to_owned();
        ((number(origin, "node"), number(origin, "incarnation")), (what.0, what.1, what.2, hash))
    };
    let origins = report["origins"].as_array().unwrap().iter().map(kept);
    origins.filter(|(_, (_, height, ..))| *height > 0).collect()
}

fn assert_equal(kept: &[Kept]) {
    kept.iter().skip(1).for_each(|other| assert_eq!(*other, kept[0]));
}

fn text(number: u64, bytes: usize) -> String {
    format!("number {number:06} {:x>bytes$}", "")
}

/// Sends so many messages to somebody, and waits until all are accepted.
fn say(client: &mut Extended, to: &str, numbers: std::ops::Range<u64>, bytes: usize) {
    let count = numbers.end - numbers.start;
    let (mut sent, mut open) = (0, BTreeSet::new());
    while sent < count || !open.is_empty() {
        while sent < count && open.len() < WINDOW {
            open.insert(client.send(to, text(numbers.start + sent, bytes)));
            sent += 1;
        }
        client.wait_for(|frame| match frame {
            FromNode::Receipt(receipt) => {
                assert_ne!(receipt.state(), State::Refused, "{receipt:?}");
                let is_kept = matches!(receipt.state(), State::Accepted | State::Kept);
                (is_kept && open.remove(&receipt.reference)).then_some(())
            }
            _ => None,
        });
    }
}

/// Which number a message is, of those that `say` has sent.
fn number_of(delivery: &Delivery) -> u64 {
    let text = String::from_utf8_lossy(&delivery.text);
    text.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("not numbered: {text}"))
}

fn deliveries(client: &mut Extended, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(number_of(&client.delivery()), number);
    }
}

fn height(delivery: &Delivery) -> Height {
    let id = delivery.id.unwrap();
    Height { origin: id.origin, height: id.number }
}

fn log_in(clique: &Clique, index: usize, name: &str, device: &str) -> Extended {
    let session_key = format!("{device:-<32}").into_bytes();
    let (name, passphrase) = (name.to_owned(), PASSPHRASE.to_owned());
    let register = Register { name, session_key, passphrase, ..Register::default() };
    Extended::ask(clique.chat(index), register).unwrap_or_else(|refused| panic!("{refused:?}"))
}

fn log_in_with_lines(clique: &Clique, index: usize, name: &str) -> Lines {
    let mut client = Lines::connect(clique.chat(index));
    client.say(name);
    client.line_with("passphrase");
    client.say(PASSPHRASE);
    client.line_with(&format!("* welcome, {name}"));
    client
}

fn claim(client: &mut Extended) {
    client.command(&format!("claim {PASSPHRASE}"));
    client.wait_for(|frame| matches!(frame, FromNode::Claimed(_)).then_some(()));
}

/// Damages each copy of a text in the file of the database.
fn damage(directory: &Path, text: &str) {
    let path = directory.join("clique.redb");
    let mut bytes = fs::read(&path).unwrap();
    let found: Vec<usize> =
        bytes.windows(text.len()).enumerate().filter(|(_, part)| *part == text.as_bytes()).map(|(at, _)| at).collect();
    assert!(!found.is_empty(), "{text:?} is not in the file");
    for at in found {
        bytes[at + 1] ^= 0x55;
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_on_a_disk_is_named_and_repaired_by_peers() {
    let mut place = Place::of(3, &[]);
    let mut alice = place.clique.extended(0, "alice");
    say(&mut alice, "*", 0..700, 40);
    place.wait_well(2);
    assert_equal(&place.stop_and_verify(3));
    let directory = place.directory(2);
    damage(&directory, "number 000010 ");
    damage(&directory, "number 000400 ");
    damage(&directory, "number 000690 ");
    // Nobody can help yet.
    place.start(2);
    let (code, overview) = place.status(2);
    assert_eq!(code, Some(1), "{overview:?}");
    assert!(overview.nodes.iter().any(|node| node.node == 2 && node.damaged > 0), "{overview:?}");
    assert!(
        overview.alarms.iter().any(|alarm| alarm.contains("on node 2 cannot be read back")),
        "{:?}",
        overview.alarms
    );
    place.clique.node(2).wait_for_output("are damaged on this node's disk; peers are asked for them");
    let mut watcher = place.clique.lines(2, "watcher");
    watcher.say("/nodes");
    watcher.line_with("on node 2 cannot be read back");
    place.start(0);
    place.start(1);
    place.clique.wait_whole();
    (0..3).for_each(|index| place.wait_well(index));
    assert_equal(&place.stop_and_verify(3));
}

#[test]
fn a_wiped_node_gets_everything_back_its_own_former_life_too() {
    let mut place = Place::of(3, &[]);
    let mut alice = place.clique.extended(2, "alice");
    say(&mut alice, "*", 0..300, 40);
    (0..3).for_each(|index| place.wait_well(index));
    place.clique.kill(2);
    fs::remove_dir_all(place.directory(2)).unwrap();
    place.start(2);
    place.clique.wait_whole();
    let mut bob = place.clique.extended(2, "bob");
    say(&mut bob, "*", 300..310, 40);
    (0..3).for_each(|index| place.wait_well(index));
    let kept = place.stop_and_verify(3);
    assert_equal(&kept);
    let lives: Vec<u64> = kept[2].iter().filter(|((node, _), _)| *node == 2).map(|(_, kept)| kept.1).collect();
    assert_eq!(lives.len(), 2, "{kept:?}");
    assert!(lives[0] >= 300 && lives[1] >= 10, "{lives:?}");
}

#[test]
fn a_database_that_cannot_be_read_is_set_aside() {
    let mut place = Place::of(2, &[]);
    let mut alice = place.clique.extended(1, "alice");
    say(&mut alice, "*", 0..300, 40);
    (0..2).for_each(|index| place.wait_well(index));
    place.clique.kill(1);
    let path = place.directory(1).join("clique.redb");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..4_096].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    place.start(1);
    place.clique.node(1).wait_for_output("this node gets what was in it from its peers");
    place.clique.wait_whole();
    (0..2).for_each(|index| place.wait_well(index));
    let names =
        fs::read_dir(place.directory(1)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().any(|name| name.starts_with("clique.redb.damaged-")));
    assert_equal(&place.stop_and_verify(2));
}

#[test]
fn who_goes_on_after_a_restart_gets_what_was_missed_and_nothing_twice() {
    let mut place = Place::of(1, &[]);
    let mut alice = place.clique.extended(0, "alice");
    let mut bob = place.clique.extended(0, "bob");
    say(&mut alice, "*", 0..20, 10);
    let first: Vec<Delivery> = (0..20).map(|_| bob.delivery()).collect();
    say(&mut bob, "*", 100..105, 10);
    place.restart_hard(0);
    let resume =
        Resume { heights: vec![height(&first[11])], registration: bob.registered.registration, ..Resume::default() };
    let session_key = format!("{:-<32}", "bob").into_bytes();
    let register = Register { name: "bob".to_owned(), session_key, resume: Some(resume), ..Register::default() };
    let mut bob = Extended::ask(place.clique.chat(0), register).unwrap();
    let mut alice = place.clique.extended(0, "alice");
    say(&mut alice, "*", 20..22, 10);
    deliveries(&mut bob, 12..22);
}

#[test]
fn a_claimed_name_its_rooms_and_its_mail_outlive_the_node() {
    let mut place = Place::of(1, &[]);
    let mut alice = place.clique.extended(0, "alice");
    claim(&mut alice);
    alice.command("join #den");
    alice.wait_for(|frame| matches!(frame, FromNode::RoomsChanged(_)).then_some(()));
    let mut bob = place.clique.extended(0, "bob");
    say(&mut bob, "*", 0..3, 10);
    deliveries(&mut alice, 0..3);
    drop(alice);
    place.clique.wait_people(1);
    say(&mut bob, "alice", 3..5, 10);
    place.restart_hard(0);

    let refused = Extended::ask(
        place.clique.chat(0),
        Register { name: "alice".to_owned(), session_key: vec![b'x'; 32], ..Register::default() },
    );
    assert!(matches!(refused.map_err(|refused| *refused), Err(FromNode::RegisterRefused(_))));
    let mut alice = log_in(&place.clique, 0, "alice", "second");
    deliveries(&mut alice, 3..5);
    let mut bob = place.clique.extended(0, "bob");
    bob.command("join #den");
    bob.wait_for(|frame| matches!(frame, FromNode::RoomsChanged(_)).then_some(()));
    say(&mut bob, "#den", 5..6, 10);
    deliveries(&mut alice, 5..6);
    let mut reader = log_in_with_lines(&place.clique, 0, "alice");
    reader.say("/history * 10");
    reader.line_with("number 000002 ");
}

/// A small file system that fills up.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(folder.path()).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        is_mounted.then_some(Self(folder))
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = fs::File::create(self.ballast()).unwrap();
        while file.write(&[1; 4_096]).is_ok_and(|written| written > 0) {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_what_is_new_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: this user may not mount a small file system");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut place = Place { clique: Clique::new(2), folder };
    place.start(0);
    let data = disk.0.path().join("node");
    place.clique.start_with(1, &[("CLIQUE_DATA", data.display().to_string())]);
    place.clique.wait_whole();
    let (mut alice, mut bob) = (place.clique.extended(0, "alice"), place.clique.extended(1, "bob"));
    place.clique.wait_people(2);
    disk.fill();
    let mut sent = 0;
    eventually("the node says that it cannot write", || {
        for number in sent..sent + 20 {
            bob.send("*", text(number, 900));
        }
        sent += 20;
        let overview = place.status(0).1;
        overview.alarms.iter().any(|alarm| alarm.starts_with("node 1 takes no messages")).then_some(())
    });
    let reference = bob.send("*", "one too many");
    let refused = bob.receipt(reference, State::Refused);
    assert!(refused.reason.contains("nothing can be written to "), "{refused:?}");
    assert_eq!(place.status(1).0, Some(1));
    // What others say comes and is shown.
    say(&mut alice, "bob", 0..50, 900);
    deliveries(&mut bob, 0..50);
    fs::remove_file(disk.ballast()).unwrap();
    eventually("messages are accepted again", || {
        let reference = bob.send("*", "again");
        bob.wait_for(|frame| match frame {
            FromNode::Receipt(receipt) if receipt.reference == reference => match receipt.state() {
                State::Refused => Some(None),
                State::Accepted => Some(Some(())),
                _ => None,
            },
            _ => None,
        })
    });
    (0..2).for_each(|index| place.wait_well(index));
    (0..2).for_each(|index| assert!(place.clique.terminate(index).success()));
    assert_equal(&[verify(&place.directory(0)), verify(&data)]);
}

#[test]
fn a_node_that_starts_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: this user may not mount a small file system");
        return;
    };
    let data = disk.0.path().join("node");
    let settings = [("CLIQUE_DATA", data.display().to_string())];
    let mut clique = Clique::new(1);
    let goes_on = |clique: &mut Clique, sent: std::ops::Range<u64>| {
        fs::remove_file(disk.ballast()).unwrap();
        eventually("the node is ready", || clique.ready(0));
        let mut alice = clique.extended(0, "alice");
        say(&mut alice, "*", sent, 900);
        alice
    };
    disk.fill();
    clique.spawn_with(0, &settings);
    clique.node(0).wait_for_output("is full; make room there");
    // Nobody has to wait with it.
    assert!(clique.terminate(0).success());
    clique.spawn_with(0, &settings);
    clique.node(0).wait_for_output("is full; make room there");
    let mut alice = goes_on(&mut clique, 0..20);
    // Once more, with a log that has no room left in its file.
    disk.fill();
    let mut sent = 0;
    eventually("nothing can be written any more", || {
        for number in sent..sent + 20 {
            alice.send("*", text(number, 900));
        }
        sent += 20;
        clique.node(0).err().contains("nothing can be written to").then_some(())
    });
    clique.kill(0);
    clique.spawn_with(0, &settings);
    goes_on(&mut clique, 20..22);
    assert!(clique.terminate(0).success());
    assert!(verify(&data).values().any(|(_, height, ..)| *height >= 20));
}

#[test]
fn what_is_kept_is_bounded_and_claims_outlive_the_cut() {
    let mut place = Place::of(2, &[("CLIQUE_KEEP_MIB", 1)]);
    let mut alice = place.clique.extended(0, "alice");
    claim(&mut alice);
    drop(alice);
    let mut bob = place.clique.extended(1, "bob");
    let mut carol = place.clique.extended(0, "carol");
    for round in 0..10 {
        say(&mut bob, "*", round * 200..(round + 1) * 200, 900);
        say(&mut carol, "*", round * 200..(round + 1) * 200, 900);
    }
    (0..2).for_each(|index| place.wait_well(index));
    let bound = |kept: &Kept| kept.values().map(|(.., bytes, _)| bytes).sum::<u64>() <= MIB + 2 * 256 * 1_024;
    eventually("what is too much is gone", || {
        let overview = place.status(0).1;
        (overview.histories == History::Equal).then_some(())
    });
    let kept = place.stop_and_verify(2);
    assert!(kept.iter().all(bound), "{kept:?}");
    assert_equal(&kept);
    (0..2).for_each(|index| place.start(index));
    place.clique.wait_whole();
    log_in(&place.clique, 0, "alice", "second");
    log_in(&place.clique, 1, "alice", "third");
    let refused = Extended::ask(
        place.clique.chat(0),
        Register { name: "alice".to_owned(), session_key: vec![b'x'; 32], ..Register::default() },
    );
    assert!(matches!(refused.map_err(|refused| *refused), Err(FromNode::RegisterRefused(_))));
}

#[test]
fn what_memory_does_not_hold_comes_from_the_disk() {
    const COUNT: u64 = 3_000;
    let mut place = Place::of(2, &[("CLIQUE_LOG_MIB", 1)]);
    let mut alice = place.clique.extended(0, "alice");
    let mut bob = place.clique.extended(0, "bob");
    place.clique.wait_people(2);
    say(&mut alice, "*", 0..10, 900);
    let first: Vec<Delivery> = (0..10).map(|_| bob.delivery()).collect();
    place.clique.wait_whole();
    place.wait_well(0);
    place.clique.kill(1);
    let registration = bob.registered.registration;
    drop(bob);
    say(&mut alice, "*", 10..COUNT, 900);
    place.start(1);
    place.clique.wait_whole();
    (0..2).for_each(|index| place.wait_well(index));
    let resume = Resume { heights: vec![height(&first[9])], registration, ..Resume::default() };
    let session_key = format!("{:-<32}", "bob").into_bytes();
    let register = Register { name: "bob".to_owned(), session_key, resume: Some(resume), ..Register::default() };
    let mut bob = Extended::ask(place.clique.chat(0), register).unwrap();
    deliveries(&mut bob, 10..COUNT);
    let mut reader = place.clique.lines(1, "reader");
    reader.say("/history * 3000");
    reader.line_with(&format!("number {:06} ", COUNT - 1));
    assert_equal(&place.stop_and_verify(2));
}
