//! The secret of a clique: who has it joins, and who has not learns nothing and does no harm.

mod common;

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use clique::wire::{
    peer::PeerFrame,
    proto::generated::{
        peer_client::PeerClient,
        peer_server::{Peer, PeerServer},
    },
};
use common::{PATIENCE, cliques::Clique, eventually, frames::Frames, socket::Socket};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const NONCE: [u8; 32] = [7; 32];

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("the node answers or closes") })
}

/// Says these things as somebody who dials. Gives what the node said until it closed, and how it closed.
fn stranger(address: SocketAddr, frames: Vec<PeerFrame>) -> (Vec<PeerFrame>, Option<Status>) {
    wait(async {
        let mut client = PeerClient::connect(format!("http://{address}")).await.unwrap();
        // The stream stays open: it is for the node to end it.
        let outgoing = stream::iter(frames).chain(stream::pending());
        let mut incoming = match client.link(outgoing).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return (Vec::new(), Some(status)),
        };
        let mut heard = Vec::new();
        loop {
            match incoming.message().await {
                Ok(Some(frame)) => heard.push(frame),
                Ok(None) => return (heard, None),
                Err(status) => return (heard, Some(status)),
            }
        }
    })
}

fn is_challenge(frame: &PeerFrame) -> bool {
    matches!(frame, PeerFrame::Challenge(nonce) if nonce.len() == NONCE.len())
}

fn talk(clique: &Clique, from: usize, to: usize) {
    let (mut asker, mut friend) =
        (clique.frames(from, &format!("asker{from}")), clique.frames(to, &format!("friend{to}")));
    eventually("the friend can be found", || {
        asker.send(&format!("friend{to}"), "hi");
        asker.sync().is_empty().then_some(())
    });
    assert_eq!(friend.hear_person().text(), "hi");
}

#[test]
fn the_same_secret_joins_wherever_it_comes_from() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "correct horse\n").unwrap();
    let mut clique = Clique::new(2);
    clique.start_with(0, &[("CLIQUE_SECRET", "correct horse".to_owned())]);
    clique.start_with(1, &[("CLIQUE_SECRET_FILE", file.path().display().to_string())]);
    clique.wait_whole();
    talk(&clique, 0, 1);
    assert!(!clique.node(0).err().contains("correct horse"), "a secret is not logged");
}

#[test]
fn another_secret_or_none_is_refused_on_both_sides() {
    let mut clique = Clique::new(4);
    for index in 0..2 {
        clique.start_with(index, &[("CLIQUE_SECRET", "ours".to_owned())]);
    }
    clique.start_with(2, &[("CLIQUE_SECRET", "theirs".to_owned())]);
    clique.start(3);
    const TOLD: &str = "the peer does not know this clique's secret; set the same CLIQUE_SECRET on every node";
    (0..4).for_each(|index| clique.node(index).wait_for_output(TOLD));
    for (index, reachable) in [(0, 2), (1, 2), (2, 1), (3, 1)] {
        clique.wait_for(index, reachable, 4);
    }
    talk(&clique, 0, 1);
    // Nobody's names are known on the other side.
    let _alice = clique.frames(0, "alice");
    let mut outsider = clique.frames(2, "alice");
    outsider.send("bob", "hi");
    assert!(outsider.notice().contains("nobody called bob"));
    assert_eq!(outsider.nodes(), "[]");
}

#[test]
fn a_newcomer_with_another_secret_is_told_although_nobody_dials_it() {
    let mut clique = Clique::new(2);
    let only = clique.ports(0).chat.to_string();
    clique.start_with(0, &[("CLIQUE_PORTS", only), ("CLIQUE_SECRET", "ours".to_owned())]);
    let first = clique.ports(0).grpc().to_string();
    clique.start_with(1, &[("CLIQUE_PEERS", first), ("CLIQUE_SECRET", "theirs".to_owned())]);
    clique.node(1).wait_for_output("is CLIQUE_SECRET the same on both?");
}

#[test]
fn a_stranger_gets_nothing_but_a_challenge() {
    let mut clique = Clique::new(2).with("CLIQUE_SECRET", "ours").started();
    let _alice = clique.frames(0, "alice");
    let grpc = clique.ports(0).grpc();
    let challenge = || PeerFrame::Challenge(NONCE.to_vec());
    let cases: [(&str, Vec<PeerFrame>, usize); 7] = [
        ("a wrong proof", vec![challenge(), PeerFrame::Proof(vec![1; 32])], 1),
        ("an empty proof", vec![challenge(), PeerFrame::Proof(Vec::new())], 1),
        ("no proof, but wishes", vec![challenge(), PeerFrame::Members(Vec::new())], 1),
        ("a second challenge", vec![challenge(), challenge()], 1),
        ("a short challenge", vec![PeerFrame::Challenge(vec![7; 8]), PeerFrame::Proof(vec![1; 32])], 1),
        ("a proof first", vec![PeerFrame::Proof(vec![1; 32])], 0),
        ("a goodbye first", vec![PeerFrame::Goodbye], 0),
    ];
    for (what, frames, challenges) in cases {
        let (heard, _) = stranger(grpc, frames);
        assert_eq!(heard.len(), challenges, "{what}: {heard:?}");
        assert!(heard.iter().all(is_challenge), "{what}: {heard:?}");
    }
    // One who says nothing, or stops half way, is turned away too.
    let silent = thread::spawn(move || stranger(grpc, Vec::new()).0);
    let (heard, _) = stranger(grpc, vec![challenge()]);
    assert!(heard.len() == 1 && is_challenge(&heard[0]), "{heard:?}");
    assert_eq!(silent.join().unwrap(), []);
    // The node's own challenge sent back to it proves nothing: each proof names the role of its maker.
    let (heard, _) = stranger(grpc, vec![heard[0].clone(), PeerFrame::Proof(vec![1; 32])]);
    assert!(heard.iter().all(is_challenge), "{heard:?}");
    clique.wait_whole();
    clique.kill(1);
    clique.start(1);
    clique.wait_whole();
}

/// Answers every dialler's challenge, cannot prove anything, and writes down what it is told.
#[derive(Clone)]
struct Impostor(Arc<Mutex<Vec<PeerFrame>>>);

#[tonic::async_trait]
impl Peer for Impostor {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<PeerFrame, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<PeerFrame>>) -> Result<Response<Self::LinkStream>, Status> {
        let heard = self.0.clone();
        let answers = request.into_inner().map(move |frame| {
            let frame = frame?;
            let answer = match frame {
                PeerFrame::Challenge(_) => PeerFrame::Challenge(NONCE.to_vec()),
                _ => PeerFrame::Proof(vec![9; 32]),
            };
            heard.lock().unwrap().push(frame);
            Ok(answer)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[test]
fn who_is_dialled_and_cannot_prove_the_secret_gets_no_more_than_a_proof() {
    let runtime = Runtime::new().unwrap();
    let impostor = Impostor(Arc::default());
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(PeerServer::new(impostor.clone()));
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut clique = Clique::new(1).with("CLIQUE_SECRET", "ours");
    clique.start_with(0, &[("CLIQUE_PEERS", address.to_string())]);
    let _alice = clique.frames(0, "alice");
    // Through several attempts, each of which ends at the proof.
    let heard = eventually("it is dialled again and again", || {
        let heard = impostor.0.lock().unwrap();
        (heard.len() >= 6).then(|| heard.clone())
    });
    for frame in heard {
        assert!(is_challenge(&frame) || matches!(frame, PeerFrame::Proof(_)), "{frame:?}");
    }
    clique.wait_for(0, 1, 1);
    runtime.shutdown_timeout(Duration::ZERO);
}

/// An address of this machine that is not loopback; nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn without_a_secret_only_peers_on_loopback_are_heard() {
    let Some(own) = own_address() else {
        println!("this machine has no address but loopback, so that there is nothing to test");
        return;
    };
    let mut clique = Clique::new(2).with("CLIQUE_LISTEN", "0.0.0.0");
    clique.start(0);
    clique.start_with(1, &[("CLIQUE_SECRET", "ours".to_owned())]);
    let challenge = || vec![PeerFrame::Challenge(NONCE.to_vec()), PeerFrame::Proof(vec![1; 32])];
    let at = |index: usize, host: IpAddr| SocketAddr::new(host, clique.ports(index).grpc().port());
    let (heard, status) = stranger(at(0, own), challenge());
    assert_eq!((heard, status.unwrap().code()), (Vec::new(), tonic::Code::Unauthenticated));
    assert_eq!(stranger(at(0, [127, 0, 0, 1].into()), challenge()).0.len(), 1, "from loopback it is heard");
    assert_eq!(stranger(at(1, own), challenge()).0.len(), 1, "with a secret it is heard from anywhere");
    clique.node(0).wait_for_output("without CLIQUE_SECRET only peers on loopback are accepted");
}

/// A HTTP/2 request with a body, by hand: header fields as literals, nothing compressed.
fn http2(path: &str, body: &[u8]) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect();
    let parts = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, b""),
        frame(1, 4, 1, &block),
        frame(0, 0, 1, body),
    ];
    parts.concat()
}

#[test]
fn nonsense_on_the_grpc_port_does_no_harm_and_tells_nothing() {
    const LINK: &str = "/clique.v1.Peer/Link";
    let clique = Clique::new(2).with("CLIQUE_SECRET", "ours").started();
    let _carol = clique.frames(0, "carol");
    let grpc = clique.ports(0).grpc();
    let random: Vec<u8> = (0..100_000).map(|_| rand::random()).collect();
    let message = |body: &[u8]| [&[0][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let nonsense: Vec<Vec<u8>> = vec![
        random.clone(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x02\x01\x00\x05\x00\x00alice".to_vec(),
        http2("/nowhere", &message(b"x")),
        http2(LINK, &message(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
        http2(LINK, &message(&random[..1_000])),
        // A field of each known number, with a body that is none.
        (1..20).flat_map(|field| http2(LINK, &message(&[field << 3 | 2, 3, 0xff, 0xff, 0xff]))).collect(),
        // Four gigabytes are announced, and a compression that nobody has agreed on.
        http2(LINK, b"\x00\xff\xff\xff\xffabc"),
        http2(LINK, b"\x01\x00\x00\x00\x03abc"),
        http2(LINK, b"\x07"),
    ];
    let mut open = Vec::new();
    for bytes in nonsense {
        let mut socket = Socket::connect(grpc);
        // The node may close before it has read all.
        let _ = socket.try_send(&bytes);
        open.push(socket);
    }
    talk(&clique, 0, 1);
    for mut socket in open {
        // What is still open ends when this side has nothing more to say.
        let _ = socket.try_half_close();
        let heard = socket.rest();
        assert!(!heard.windows(5).any(|part| part == b"carol"), "{heard:?}");
        assert!(heard.len() < 2_000, "{} bytes for a stranger", heard.len());
    }
    clique.wait_whole();
    talk(&clique, 1, 0);
}

#[test]
fn the_standard_services_for_health_and_reflection_answer() {
    let clique = Clique::new(1).with("CLIQUE_SECRET", "ours").started();
    let endpoint = format!("http://{}", clique.ports(0).grpc());
    wait(async {
        let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
        let mut health = HealthClient::new(channel.clone());
        for service in ["", "clique.v1.Peer"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let status = health.check(request).await.unwrap().into_inner().status();
            assert_eq!(status, ServingStatus::Serving, "{service:?}");
        }
        let mut reflection = ServerReflectionClient::new(channel);
        let ask =
            |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let requests = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("clique.v1.Peer".to_owned())),
        ];
        let mut answers = reflection.server_reflection_info(stream::iter(requests)).await.unwrap().into_inner();
        let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = next().await else { panic!("a list is due") };
        let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(names.contains(&"clique.v1.Peer") && names.contains(&"grpc.health.v1.Health"), "{names:?}");
        let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!("a description is due") };
        assert!(!files.file_descriptor_proto.is_empty());
    });
    Frames::named(clique.chat(0), "alice");
}
