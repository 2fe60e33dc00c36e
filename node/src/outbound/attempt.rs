//! One try of a request at one endpoint.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{EndpointKey, ErrorCode, frame};
use starling_routing::{Pick, Verdict};
use starling_transport::{Connection, RecvHalf, Request, SendHalf, StreamError};

use super::call::Call;
use super::pump::{PumpError, pump};
use super::reach;
use crate::failure::Failure;

/// A try that ended without an answer of the application.
pub(super) struct Lost {
    /// Where it went; `None` if it went nowhere.
    pub(super) endpoint: Option<EndpointKey>,
    pub(super) failure: Failure,
    /// The decision to send it elsewhere has been made, and this is the pause before.
    pub(super) again_after: Option<Duration>,
}

/// The head of an answer, and what the rest of it comes on.
pub(super) struct Answered {
    pub(super) head: v1::ResponseHead,
    pub(super) recv: RecvHalf,
    /// The other direction, for an answer that switches to another protocol.
    pub(super) send: Option<SendHalf>,
    pub(super) pick: Pick,
    pub(super) outstanding: Request,
}

/// Is this an answer before the answer?
fn is_interim(head: &v1::ResponseHead) -> bool {
    head.error.is_empty() && (100..200).contains(&head.status) && head.status != 101
}

type Pumping = Pin<Box<dyn Future<Output = Result<(), PumpError>> + Send>>;

/// No head of an answer came.
struct Unanswered {
    failure: Failure,
    again_after: Option<Duration>,
}

impl<E: Into<Failure>> From<E> for Unanswered {
    fn from(error: E) -> Self {
        Self { failure: error.into(), again_after: None }
    }
}

impl Call<'_> {
    /// Chooses an endpoint, sends the request, and waits for the head of the answer.
    pub(super) async fn attempt(&mut self) -> Result<Answered, Lost> {
        let nowhere = |failure| Lost { endpoint: None, failure, again_after: None };
        let pick = reach::pick(self.shard, &self.cluster, &self.tries).map_err(nowhere)?;
        let endpoint = Arc::clone(pick.endpoint());
        let key = &endpoint.key;
        let lost = |failure, again_after| Lost { endpoint: Some(key.clone()), failure, again_after };
        let connection = match reach::connect(self.shard, &self.cluster, &self.tries, self.deadline, &endpoint).await {
            Ok(connection) => connection,
            Err(failure) => {
                reach::failed(pick, &failure);
                return Err(lost(failure, None));
            }
        };
        self.record.on_try(&endpoint);
        let outstanding = connection.begin_request();
        let (failure, again_after) = match self.exchange(&connection, key).await {
            Ok((head, recv, send)) if head.error.is_empty() => {
                return Ok(Answered { head, recv, send, pick, outstanding });
            }
            Ok((head, ..)) => (reach::refused(&connection, &head.error, head.detail), None),
            Err(Unanswered { failure, again_after }) => (failure, again_after),
        };
        reach::failed(pick, &failure);
        Err(lost(failure, again_after))
    }

    async fn exchange(
        &mut self,
        connection: &Connection,
        key: &EndpointKey,
    ) -> Result<(v1::ResponseHead, RecvHalf, Option<SendHalf>), Unanswered> {
        let (mut send, mut recv) = connection.open().await?;
        let left = self.deadline.for_hop(Instant::now());
        let head = self.asked.head(self.tries.number(), key.instance, left);
        let switches = self.asked.is_upgrade();
        send.send_head_and(head, Bytes::new(), self.upload.is_none() && !switches).await?;
        let (send, pumping) = if switches { (Some(send), None) } else { (None, self.start_pump(send)) };
        match self.wait(connection, key, &mut recv, pumping).await {
            Ok(head) => Ok((head, recv, send)),
            Err(unanswered) => {
                recv.stop(ErrorCode::Cancelled);
                Err(unanswered)
            }
        }
    }

    fn start_pump(&self, send: SendHalf) -> Option<Pumping> {
        let upload = self.upload.clone()?;
        Some(Box::pin(pump(upload, send)))
    }

    /// Waits for the head while the body goes out. If the head comes first, the rest of the body follows by itself.
    async fn wait(
        &mut self,
        connection: &Connection,
        key: &EndpointKey,
        recv: &mut RecvHalf,
        mut pumping: Option<Pumping>,
    ) -> Result<v1::ResponseHead, Unanswered> {
        let interims = self.interims;
        let mut reading = pin!(async {
            loop {
                let head = recv.recv_head::<v1::ResponseHead>(frame::MAX_HEAD).await?;
                if !is_interim(&head) {
                    return Ok::<_, StreamError>(head);
                }
                interims.send(head);
            }
        });
        let mut silent = pin!(connection.silent());
        // The time for one try begins when the request has been sent whole.
        let mut try_until = pumping.is_none().then(|| self.try_until()).flatten();
        let mut watch_silence = true;
        loop {
            // One timer for both: it is set for every request. Nobody said how long a body may take to come.
            let uploading = pumping.is_some() && !self.deadline.is_declared();
            let patience = try_until.unwrap_or(self.deadline.at());
            tokio::select! {
                biased;
                head = &mut reading => {
                    let head = head?;
                    // A node that refuses wants no more of the body, and another try may need it from here on.
                    if let Some(rest) = pumping.filter(|_| head.error.is_empty()) {
                        tokio::spawn(rest);
                    }
                    return Ok(head);
                }
                end = async { pumping.as_mut().expect("guarded").await }, if pumping.is_some() => {
                    pumping = None;
                    if let Err(PumpError::Caller(error)) = end {
                        return Err(Failure::new(error.code, error.to_string()).into());
                    }
                    self.deadline = self.deadline.of_answer(self.shard.plane.timeout(), Instant::now());
                    // If the stream failed, reading its answer tells why.
                    try_until = self.try_until();
                }
                () = &mut silent, if watch_silence => {
                    if let Some(after) = self.go_elsewhere(key, ErrorCode::ConnectionSilent) {
                        let failure = Failure::new(ErrorCode::ConnectionSilent, "the connection fell silent");
                        return Err(Unanswered { failure, again_after: Some(after) });
                    }
                    watch_silence = false;
                }
                () = tokio::time::sleep_until(patience.into()), if !uploading => {
                    if try_until.is_none() {
                        return Err(Failure::new(ErrorCode::Deadline, "no answer before the deadline").into());
                    }
                    if let Some(after) = self.go_elsewhere(key, ErrorCode::TryTimeout) {
                        let failure = Failure::new(ErrorCode::TryTimeout, "no answer in time for one try");
                        return Err(Unanswered { failure, again_after: Some(after) });
                    }
                    try_until = None;
                }
            }
        }
    }

    fn try_until(&self) -> Option<Instant> {
        self.deadline.try_until_within(self.shard.plane.defaults.try_timeout, Instant::now())
    }

    /// Asks whether a try that has not ended is better given up for another.
    fn go_elsewhere(&mut self, key: &EndpointKey, error: ErrorCode) -> Option<Duration> {
        match self.on_failure(key, error) {
            Verdict::Retry { after, elsewhere: true } => Some(after),
            _ => None,
        }
    }

    pub(super) fn on_failure(&mut self, endpoint: &EndpointKey, error: ErrorCode) -> Verdict {
        let replayable = self.upload.as_ref().is_none_or(super::upload::Upload::is_replayable);
        let failed = starling_routing::Failure { endpoint, error, idempotent: self.idempotent, replayable };
        let mut rng = self.shard.rng();
        self.tries.on_failure(failed, &self.cluster, self.deadline, &mut rng, Instant::now())
    }
}
