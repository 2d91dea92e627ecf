//! The stream of JetStream that keeps the messages of a run: created before it, looked at and deleted after it, over the
//! same text protocol as everything else.

use std::time::Duration;

use serde::Deserialize;
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, sleep, timeout},
};

use super::{
    BenchError,
    connection::Connection,
    speech::{Event, Speech},
};

/// How long servers may take to choose their leaders before a stream can be made.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A stream, and the connection on which it is managed.
#[derive(Debug)]
pub struct Stream {
    connection: Connection,
    name: String,
    /// Where answers are sent to.
    answers: String,
}

/// What JetStream answers, as far as anything here looks at it.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    error: Option<Problem>,
    #[serde(default)]
    state: State,
    cluster: Option<Cluster>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(default)]
    description: String,
}

#[derive(Debug, Default, Deserialize)]
struct State {
    #[serde(default)]
    messages: u64,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    leader: Option<String>,
}

impl Stream {
    /// Makes a stream of files that keeps what is sent to these subjects on so many servers.
    ///
    /// # Errors
    /// If the server refuses, or has not made it in time.
    pub async fn create(address: &str, name: &str, subjects: &[String], replicas: u16) -> Result<Self, BenchError> {
        let answers = format!("{name}api");
        let connection = Connection::open(Speech::Nats, address, answers.clone(), Some(&answers)).await?;
        let mut stream = Self { connection, name: name.to_owned(), answers };
        let settings = serde_json::json!({
            "name": name, "subjects": subjects, "num_replicas": replicas, "storage": "file", "retention": "limits",
            "discard": "old", "max_msgs": -1, "max_bytes": -1,
        });
        let deadline = Instant::now() + CREATE_TIMEOUT;
        loop {
            let refusal = match stream.ask("CREATE", &settings.to_string()).await {
                Ok(Answer { error: None, .. }) => return Ok(stream),
                Ok(Answer { error: Some(problem), .. }) => problem.description,
                Err(BenchError::NoStream { reason }) => reason,
                Err(error) => return Err(error),
            };
            if Instant::now() > deadline {
                return Err(BenchError::NoStream { reason: refusal });
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// How many messages it keeps.
    ///
    /// # Errors
    /// If the server does not say.
    pub async fn messages(&mut self) -> Result<u64, BenchError> {
        Ok(self.ask("INFO", "").await?.state.messages)
    }

    /// The name of the server that leads its replicas, if they have chosen one.
    ///
    /// # Errors
    /// If the server does not say.
    pub async fn leader(&mut self) -> Result<Option<String>, BenchError> {
        Ok(self.ask("INFO", "").await?.cluster.and_then(|cluster| cluster.leader))
    }

    /// Deletes it with all that it keeps.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn delete(mut self) -> Result<(), BenchError> {
        self.ask("DELETE", "").await.map(drop)
    }

    async fn ask(&mut self, verb: &str, body: &str) -> Result<Answer, BenchError> {
        let no_stream = |reason: String| BenchError::NoStream { reason };
        let subject = format!("$JS.API.STREAM.{verb}.{}", self.name);
        let request = format!("PUB {subject} {} {}\r\n{body}\r\n", self.answers, body.len());
        self.connection.mouth.write_all(request.as_bytes()).await.map_err(BenchError::Failed)?;
        let mut answer = None;
        let answered = async {
            while answer.is_none() {
                self.connection
                    .ear
                    .hear(|event| {
                        if let Event::Message { text, .. } = event {
                            answer = Some(serde_json::from_slice::<Answer>(text));
                        }
                    })
                    .await
                    .map_err(|error| no_stream(error.to_string()))?;
            }
            Ok(())
        };
        timeout(ANSWER_TIMEOUT, answered)
            .await
            .unwrap_or_else(|_| Err(no_stream("no answer; is JetStream switched on?".to_owned())))?;
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(no_stream(error.to_string())),
            None => Err(no_stream("no answer".to_owned())),
        }
    }
}
