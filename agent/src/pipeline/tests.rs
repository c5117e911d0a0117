//! Order, bounds and deadlines of the data path, without a kernel.

use std::sync::mpsc::channel;

use tokentap_abi::{ABI_VERSION, Direction, Header, decode, encode};
use tokentap_export::{
    Record,
    config::{BatchConfig, ExportConfig},
    prepare,
};
use tokentap_genai::{Measurements, Options, Relations, Resource, Span, SpanKind, SpanStatus, Value};
use tokentap_tape::{ControlEvent, Process, ProcessKey};
use tokentap_wire::Nanos;

use super::{admission::Admission, clock::Clock, processes::Processes, worker::Context, *};
use crate::{
    targets::{self, Inbox, ProcessEvent, Request, attributes::Describer},
    telemetry::ByReason,
};

const SECOND: u64 = 1_000_000_000;

fn key(pid: u32, generation: u64) -> ProcessKey {
    ProcessKey { pid, generation }
}

fn bytes(header: Header, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&encode(&Header { version: ABI_VERSION, len, orig: len, ..header })[..], payload].concat()
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    bytes(Header { kind: kind as u8, ..Header::default() }, payload)
}

/// A frame of a process; of process events, `stream` is the generation.
fn of(pid: u32, kind: Kind, stream: u64, payload: &[u8]) -> Vec<u8> {
    bytes(Header { kind: kind as u8, tgid: pid, stream, ..Header::default() }, payload)
}

#[test]
fn under_pressure_a_process_that_floods_loses_its_own_data() {
    let telemetry = Telemetry::new();
    let of = |pid: u32, bytes: usize| {
        let header = Header {
            version: ABI_VERSION,
            kind: Kind::Data as u8,
            len: u32::try_from(bytes).unwrap(),
            tgid: pid,
            ..Header::default()
        };
        [&encode(&header)[..], &vec![0; bytes]].concat()
    };
    let flood = of(7, 1 << 17);
    let other = of(8, 100);
    let frames = [&flood[..], &other, &flood, &other].concat();
    let kept = reduced(Batch { frames, events: Vec::new() }, &telemetry);
    assert_eq!(kept.frames, [&other[..], &other].concat());
    assert_eq!(telemetry.count(Event::WorkerFullBytes), 2 << 17);
}

#[test]
fn under_pressure_data_is_counted_and_the_rest_is_kept_in_order() {
    let telemetry = Telemetry::new();
    let (data, close) = (frame(Kind::Data, b"12345"), frame(Kind::HalfClose, b""));
    let ended = |pid| ControlEvent::Ended(key(pid, 0));
    let batch = Batch {
        frames: [&data[..], &close, &data].concat(),
        events: vec![(0, ended(1)), (data.len(), ended(2)), (data.len() * 2, ended(3))],
    };
    let kept = without_data(batch, |_| true, &telemetry);
    assert_eq!(kept.frames, close);
    let order: Vec<(usize, u32)> = kept
        .events
        .iter()
        .map(|(at, event)| match event {
            ControlEvent::Ended(key) => (*at, key.pid),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [(0, 1), (0, 2), (close.len(), 3)]);
    assert_eq!(telemetry.count(Event::WorkerFullBytes), 10);
}

#[test]
fn what_is_kept_for_a_worker_that_does_not_keep_up_is_bounded() {
    let telemetry = Telemetry::new();
    let close = frame(Kind::HalfClose, &[0; 1000]);
    let more = 7;
    let frames = close.repeat(MAX_KEPT_BYTES / close.len() + more);
    let events = vec![(0, ControlEvent::Ended(key(1, 0))); MAX_KEPT_EVENTS + more];
    let kept = without_data(Batch { frames, events }, |_| true, &telemetry);
    assert!(kept.frames.len() <= MAX_KEPT_BYTES && kept.events.len() <= MAX_KEPT_EVENTS);
    assert_eq!(telemetry.count(Event::WorkerFullEvents), 2 * more as u64);
}

/// What it may fall behind is measured in bytes, however often the little that came was handed over.
#[test]
fn a_worker_that_stalls_loses_nothing_of_little_data() {
    let telemetry = Telemetry::new();
    let (go_on, wait) = channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let (frames, received) = channel();
    let mut pipeline = Pipeline::start_threads(1, OverflowPolicy::Drop, &telemetry, || {
        let (wait, frames) = (Arc::clone(&wait), frames.clone());
        move |inbox: &Receiver<WorkerMessage>, _: &SyncSender<Batch>| {
            wait.lock().unwrap().recv().unwrap();
            while let Ok(WorkerMessage::Batch(batch)) = inbox.recv() {
                frames.send(batch.frames).unwrap();
            }
        }
    })
    .unwrap();
    let mut sent = Vec::new();
    for number in 0..1000_u16 {
        let data = frame(Kind::Data, &number.to_le_bytes().repeat(1000));
        pipeline.frame(&decode(&data).unwrap(), &data);
        pipeline.flush();
        sent.extend_from_slice(&data);
    }
    go_on.send(()).unwrap();
    pipeline.stop(Instant::now() + Duration::from_secs(30));
    assert!(received.try_iter().flatten().eq(sent), "every frame, in order");
    assert_eq!(telemetry.count(Event::WorkerFullBytes), 0);
}

/// Neither a worker that takes nothing nor one that does not end holds up the end.
#[test]
fn workers_that_do_not_end_are_left_behind_and_counted() {
    let telemetry = Telemetry::new();
    let (keep, never) = channel::<()>();
    let never = Arc::new(std::sync::Mutex::new(never));
    let mut pipeline = Pipeline::start_threads(1, OverflowPolicy::Drop, &telemetry, || {
        let never = Arc::clone(&never);
        move |_: &Receiver<WorkerMessage>, _: &SyncSender<Batch>| {
            assert!(never.lock().unwrap().recv().is_err())
        }
    })
    .unwrap();
    let data = frame(Kind::Data, &[0; 1000]);
    for _ in 0..QUEUED + 1 {
        pipeline.frame(&decode(&data).unwrap(), &data);
        pipeline.flush();
    }
    pipeline.stop(Instant::now() + Duration::from_millis(20));
    assert_eq!(telemetry.count(Event::AbandonedThreads), 1);
    assert_eq!(telemetry.count(Event::WorkerFullBytes), 1000, "what it did not take is counted");
    drop(keep);
}

/// Remembers what passes, as text.
#[derive(Default)]
struct Passed(Vec<String>);

impl FrameSink for Passed {
    fn frame(&mut self, frame: &Frame<'_>, _bytes: &[u8]) {
        let text = String::from_utf8_lossy(frame.payload);
        self.0.push(match frame.kind {
            Kind::Data => format!("{} {text}", frame.header.tgid),
            kind => format!("{} {kind:?}", frame.header.tgid),
        });
    }

    fn event(&mut self, event: ControlEvent) {
        self.0.push(match event {
            ControlEvent::Observed(key) => format!("{} observed {}", key.pid, key.generation),
            ControlEvent::Ended(key) => format!("{} ended {}", key.pid, key.generation),
            ControlEvent::Described(process) => format!("{} described", process.key.pid),
            ControlEvent::Peer(stream, peer) => format!("stream {stream} to {peer}"),
        });
    }

    fn flush(&mut self) {}
}

struct Gate {
    admission: Admission,
    passed: Passed,
    inbox: Inbox,
    telemetry: Arc<Telemetry>,
}

impl Gate {
    fn new() -> Self {
        let telemetry = Telemetry::new();
        let (requests, inbox) = targets::requests(&telemetry);
        let admission = Admission::new(requests, Arc::clone(&telemetry));
        Self { admission, passed: Passed::default(), inbox, telemetry }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.admission.frame(&decode(bytes).unwrap(), bytes, &mut self.passed);
    }

    fn process_event(&mut self, process_event: ProcessEvent) {
        self.admission.process_event(process_event, &mut self.passed);
    }

    /// What has passed since.
    fn passed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.passed.0)
    }

    /// What the targets thread was asked since.
    fn asked(&self) -> Vec<Request> {
        self.inbox.take_all()
    }
}

/// The library that it maps would not be searched for before it maps another one.
#[test]
fn what_a_process_maps_before_its_acceptance_arrives_is_reported() {
    let mut gate = Gate::new();
    gate.take(&of(7, Kind::Map, 0, b""));
    assert!(matches!(gate.asked()[..], [Request::Mapped(7)]));
    gate.process_event(ProcessEvent::Refused(key(7, 0)));
    gate.take(&of(7, Kind::Map, 0, b""));
    gate.process_event(ProcessEvent::Accepted(key(8, 80)));
    gate.take(&of(8, Kind::Map, 0, b""));
    assert!(matches!(gate.asked()[..], [.., Request::Mapped(8)]));
}

#[test]
fn frames_wait_until_their_process_is_accepted_and_keep_their_order() {
    let mut gate = Gate::new();
    gate.take(&of(7, Kind::Exec, 70, b"/bin/a\0"));
    gate.take(&of(7, Kind::Data, 1, b"one"));
    gate.take(&of(7, Kind::Exec, 71, b"/bin/b\0"));
    gate.take(&of(7, Kind::Data, 2, b"two"));
    assert!(gate.passed().is_empty() && gate.admission.is_waiting());
    gate.process_event(ProcessEvent::Accepted(key(7, 70)));
    gate.process_event(ProcessEvent::Accepted(key(7, 71)));
    assert_eq!(gate.passed(), ["7 observed 70", "7 one", "7 observed 71", "7 two"]);
    assert!(!gate.admission.is_waiting());
    gate.take(&of(7, Kind::Data, 2, b"three"));
    gate.take(&of(7, Kind::Exec, 72, b"/bin/c\0"));
    gate.take(&of(7, Kind::Data, 3, b"four"));
    assert_eq!(gate.passed(), ["7 three", "7 observed 72", "7 four"], "accepted once, accepted for good");
}

#[test]
fn frames_of_refused_processes_are_dropped_and_counted() {
    let mut gate = Gate::new();
    gate.take(&of(7, Kind::Exec, 70, b"/bin/sh\0"));
    gate.take(&of(7, Kind::Data, 1, b"12345"));
    // It executes what is selected before it is decided.
    gate.take(&of(7, Kind::Exec, 71, b"/bin/curl\0"));
    gate.take(&of(7, Kind::Data, 2, b"mine"));
    gate.process_event(ProcessEvent::Refused(key(7, 70)));
    assert_eq!(gate.telemetry.count(Event::RefusedBytes), 5);
    gate.process_event(ProcessEvent::Accepted(key(7, 71)));
    assert_eq!(gate.passed(), ["7 observed 71", "7 mine"]);

    gate.take(&of(8, Kind::Exec, 80, b"/bin/sh\0"));
    gate.take(&of(8, Kind::Data, 3, b"123"));
    gate.process_event(ProcessEvent::Refused(key(8, 80)));
    gate.take(&of(8, Kind::Data, 3, b"45"));
    assert!(gate.passed().is_empty());
    assert_eq!(gate.telemetry.count(Event::RefusedBytes), 10);
    assert_eq!(gate.telemetry.count(Event::UndecidedBytes), 0);
}

#[test]
fn children_of_accepted_processes_are_accepted_at_once_and_others_are_decided() {
    let mut gate = Gate::new();
    gate.process_event(ProcessEvent::Accepted(key(7, 70)));
    gate.take(&of(7, Kind::Fork, 80, &8u32.to_le_bytes()));
    gate.take(&of(8, Kind::Data, 1, b"child"));
    assert_eq!(gate.passed(), ["7 observed 70", "8 observed 80", "8 child"]);
    let asked = gate.asked();
    let [Request::Forked { accepted: true, .. }, Request::Describe(described)] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(*described, key(8, 80), "what uses the network is described");

    gate.take(&of(9, Kind::Exec, 90, b"/bin/sh\0"));
    gate.take(&of(9, Kind::Fork, 100, &10u32.to_le_bytes()));
    gate.take(&of(10, Kind::Data, 2, b"waits"));
    assert!(gate.passed().is_empty());
    let asked = gate.asked();
    let [Request::Executed { accepted: false, .. }, Request::Forked { accepted: false, .. }] = &asked[..]
    else {
        panic!("{asked:?}")
    };
}

#[test]
fn an_id_that_is_used_again_is_another_process() {
    let mut gate = Gate::new();
    gate.process_event(ProcessEvent::Accepted(key(7, 70)));
    gate.process_event(ProcessEvent::Accepted(key(8, 80)));
    gate.take(&of(7, Kind::Fork, 81, &8u32.to_le_bytes()));
    gate.process_event(ProcessEvent::Ended(key(8, 80)));
    gate.take(&of(8, Kind::Data, 1, b"new"));
    assert_eq!(
        gate.passed(),
        ["7 observed 70", "8 observed 80", "8 ended 80", "8 observed 81", "8 new"],
        "the late end of the old one does not end the new one"
    );
}

#[test]
fn what_waits_for_a_decision_is_bounded_and_asked_for_again() {
    let mut gate = Gate::new();
    let large = vec![b'x'; 16 << 10];
    for _ in 0..100 {
        gate.take(&of(7, Kind::Data, 1, &large));
    }
    let lost = gate.telemetry.count(Event::UndecidedBytes);
    assert!(lost >= 36 * large.len() as u64 && lost < 40 * large.len() as u64, "{lost}");
    assert_eq!(gate.asked().len(), 1);
    let now = Instant::now();
    gate.admission.tick(now + Duration::from_secs(2));
    assert!(matches!(gate.asked()[..], [Request::Unknown(key)] if key.pid == 7));
    gate.admission.tick(now + Duration::from_secs(20));
    assert_eq!(gate.telemetry.count(Event::UndecidedBytes), 100 * large.len() as u64);
    assert!(!gate.admission.is_waiting());
}

#[test]
fn peers_are_forgotten_with_their_process() {
    let mut open = [0; 28];
    open[2] = 2;
    open[4..6].copy_from_slice(&443u16.to_le_bytes());
    open[12..16].copy_from_slice(&[127, 0, 0, 1]);
    let mut gate = Gate::new();
    gate.process_event(ProcessEvent::Accepted(key(7, 70)));
    gate.take(&of(7, Kind::Open, 1, &open));
    gate.take(&of(7, Kind::Bind, 2, &1u64.to_le_bytes()));
    let to = "127.0.0.1:443";
    assert_eq!(
        gate.passed(),
        ["7 observed 70".into(), "7 Open".into(), format!("stream 1 to {to}"), format!("stream 2 to {to}")]
    );
    gate.process_event(ProcessEvent::Ended(key(7, 70)));
    gate.process_event(ProcessEvent::Accepted(key(7, 71)));
    gate.take(&of(7, Kind::Bind, 3, &1u64.to_le_bytes()));
    assert_eq!(gate.passed(), ["7 ended 70", "7 observed 71"]);
}

fn record(pid: u32, resource: Arc<Resource>) -> Record {
    let span = Span {
        name: "chat".into(),
        kind: SpanKind::Client,
        parent: None,
        start: Nanos(0),
        end: Nanos(1),
        status: SpanStatus::Unset,
        attributes: Vec::new(),
        incomplete: None,
        event_content: Vec::new(),
        relations: Relations::default(),
        forced: false,
        measurements: Measurements::default(),
    };
    let (trace_id, span_id) = ([1; 16], [1; 8]);
    Record {
        resource,
        trace_id,
        span_id,
        start_unix_nanos: 0,
        end_unix_nanos: 1,
        span,
        links: Vec::new(),
        pid,
    }
}

#[test]
fn spans_wait_for_the_description_of_their_process_but_not_for_ever() {
    let mut processes = Processes::new(Arc::new(Describer::default()));
    let finish = |processes: &mut Processes, key: ProcessKey, at| {
        processes.finish(key, Nanos(at), |resource| record(key.pid, resource))
    };
    processes.observe(key(7, 70));
    processes.observe(key(8, 80));
    assert!(finish(&mut processes, key(7, 70), 0).is_none());
    assert!(finish(&mut processes, key(8, 80), SECOND).is_none());
    processes.end(key(7, 70));
    // The description comes after its end, and after another process took its id.
    processes.observe(key(7, 71));
    let resource = Arc::<Resource>::default();
    let ready = processes.describe(&Process { key: key(7, 70), resource: Arc::clone(&resource) });
    assert!(matches!(&ready[..], [(record, true)] if Arc::ptr_eq(&record.resource, &resource)));
    assert!(finish(&mut processes, key(7, 71), SECOND).is_none(), "the new process is not the old one");

    assert!(processes.overdue(Nanos(2 * SECOND)).is_none());
    let (record, described) = processes.overdue(Nanos(3 * SECOND)).unwrap();
    assert_eq!((record.pid, described), (8, false));
    assert_eq!(record.resource.get("process.pid"), Some(&Value::Int(8)), "exported with what is known");
}

#[test]
fn spans_that_wait_are_bounded() {
    let mut processes = Processes::new(Arc::new(Describer::default()));
    processes.observe(key(7, 70));
    let finished = (0..1030)
        .filter_map(|_| processes.finish(key(7, 70), Nanos(0), |resource| record(7, resource)))
        .count();
    assert_eq!(finished, 6);
}

fn worker(stale_after: Nanos) -> (Worker, Arc<Telemetry>) {
    let telemetry = Telemetry::new();
    let batch = BatchConfig {
        schedule_delay: Duration::ZERO,
        max_queue_size: 1,
        max_queue_bytes: 1,
        max_export_batch_size: 1,
    };
    let config = ExportConfig { batch, ..ExportConfig::default() };
    let context = Context {
        options: Arc::new(Options::default()),
        stale_after,
        export: prepare(&config).unwrap().0,
        telemetry: Arc::clone(&telemetry),
        links: Arc::default(),
        clock: Clock::recorded(0),
        describer: Arc::default(),
        requests: None,
    };
    (Worker::new(context), telemetry)
}

/// Time passes only by the frames of the busy stream here.
#[test]
fn a_call_that_hangs_is_given_up_while_another_stream_is_busy() {
    const CALL: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n{\"model\":\"m\",\"messages\":[]}\n";
    const OTHER: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (worker, telemetry) = worker(Nanos(2 * SECOND));
    let mut pipeline = Pipeline::start_threads(1, OverflowPolicy::Wait, &telemetry, {
        let worker = std::cell::Cell::new(Some(worker));
        move || {
            let worker = worker.take().unwrap();
            move |inbox: &Receiver<WorkerMessage>, recycle: &SyncSender<Batch>| worker.run(inbox, recycle)
        }
    })
    .unwrap();
    let data = |stream, seconds: u64, offset, payload: &[u8]| {
        let header = Header {
            kind: Kind::Data as u8,
            tgid: 7,
            stream,
            time: seconds * SECOND,
            offset,
            dir: Direction::Write as u8,
            ..Header::default()
        };
        bytes(header, payload)
    };
    pipeline.event(ControlEvent::Observed(key(7, 70)));
    let hanging = data(1, 1, 0, CALL);
    pipeline.frame(&decode(&hanging).unwrap(), &hanging);
    for second in 1..10 {
        let busy = data(2, second, (second - 1) * OTHER.len() as u64, OTHER);
        pipeline.frame(&decode(&busy).unwrap(), &busy);
        pipeline.flush();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while telemetry.count_by_reason(ByReason::IncompleteCalls) == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(telemetry.count(Event::Calls), 1, "before the agent ends");
    pipeline.stop(deadline);
    assert_eq!(telemetry.count(Event::Calls), 1);
}
