use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt;
use starling_proto::{ErrorCode, SpiffeId};
use tokio::task::{AbortHandle, JoinSet};

use super::Shared;
use super::machine::Output;
use crate::{ConnectError, Connection, Lost};

/// What happened.
enum Event {
    Dialed { number: u64, spiffe: SpiffeId, outcome: Result<Connection, ConnectError> },
    DialedBetter { number: u64, spiffe: SpiffeId, made: Option<Connection> },
    Closed { number: u64, spiffe: SpiffeId, lost: Lost },
}

/// Waits, feeds the machine, does what it says, publishes.
pub(super) async fn drive(shared: Arc<Shared>) {
    let mut tasks: JoinSet<Event> = JoinSet::new();
    let mut closings: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    let mut silence = shared.dialer.board().subscribe();
    let mut paths = shared.dialer.paths().subscribe();
    loop {
        let (outputs, timeout) = {
            let mut machine = shared.machine();
            (machine.poll_outputs(Instant::now()), machine.poll_timeout())
        };
        for output in outputs {
            perform(&shared, output, &mut tasks, &mut closings);
        }
        publish(&shared);
        let timeout = timeout.map(tokio::time::Instant::from_std);
        tokio::select! {
            () = shared.wake.notified() => {}
            Ok(()) = silence.changed() => {}
            Ok(()) = paths.changed() => {
                let by_tcp = Arc::clone(&paths.borrow_and_update());
                shared.machine().handle_paths(|address| by_tcp.contains_key(&address), Instant::now());
            }
            Some(event) = tasks.join_next() => {
                // An aborted task has nothing to tell.
                if let Ok(event) = event {
                    handle(&shared, event, &mut tasks, &mut closings);
                }
            }
            () = async { tokio::time::sleep_until(timeout.expect("checked")).await }, if timeout.is_some() => {}
        }
    }
}

fn perform(
    shared: &Arc<Shared>,
    output: Output<Connection>,
    tasks: &mut JoinSet<Event>,
    closings: &mut BTreeMap<u64, AbortHandle>,
) {
    match output {
        Output::Dial { number, spiffe, address } => {
            let shared = shared.clone();
            tasks.spawn(async move {
                let settings = &shared.settings;
                let dial = shared.dialer.connect(address, Some(&spiffe), settings.alpn, settings.connect_timeout);
                let outcome = dial.await;
                Event::Dialed { number, spiffe, outcome }
            });
        }
        Output::DialBetter { number, spiffe, address } => {
            let shared = shared.clone();
            tasks.spawn(async move {
                let settings = &shared.settings;
                let timeout = settings.connect_timeout;
                let made = shared.dialer.connect_quic(address, Some(&spiffe), settings.alpn, timeout).await.ok();
                Event::DialedBetter { number, spiffe, made }
            });
        }
        Output::Close { number, link } => {
            closings.remove(&number).iter().for_each(AbortHandle::abort);
            link.close(ErrorCode::ConnectionSilent, "nothing passes on this path");
        }
        // The connection closes when its last stream is dropped; the task that waits for its end must not hold it.
        Output::Retire { number } => {
            if let Some(task) = closings.remove(&number) {
                task.abort();
            }
        }
    }
}

fn handle(shared: &Arc<Shared>, event: Event, tasks: &mut JoinSet<Event>, closings: &mut BTreeMap<u64, AbortHandle>) {
    let now = Instant::now();
    let jitter = rand::rng().random();
    match event {
        Event::Dialed { number, spiffe, outcome: Ok(connection) } => {
            shared.machine().handle_connected(&spiffe, number, connection.clone(), now);
            closings.insert(number, tasks.spawn(closed(number, spiffe, connection)));
        }
        Event::DialedBetter { number, spiffe, made } => {
            shared.machine().handle_better(&spiffe, number, made.clone(), jitter, now);
            if let Some(connection) = made {
                closings.insert(number, tasks.spawn(closed(number, spiffe, connection)));
            }
        }
        Event::Dialed { spiffe, outcome: Err(error), .. } => {
            shared.machine().handle_failed(&spiffe, error, jitter, now);
        }
        Event::Closed { number, spiffe, lost } => {
            closings.remove(&number);
            shared.machine().handle_closed(&spiffe, number, ConnectError::Refused(lost.to_string()), jitter, now);
        }
    }
}

async fn closed(number: u64, spiffe: SpiffeId, connection: Connection) -> Event {
    let lost = connection.closed().await;
    Event::Closed { number, spiffe, lost }
}

fn publish(shared: &Shared) {
    let linked: BTreeSet<SpiffeId> = shared.machine().linked().cloned().collect();
    shared.linked.send_if_modified(|known| {
        let changed = **known != linked;
        if changed {
            *known = Arc::new(linked);
        }
        changed
    });
    shared.changed.notify_waiters();
}
