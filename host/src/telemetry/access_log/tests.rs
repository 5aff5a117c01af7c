//! Lines as they are written, and a writer that is slow, full or gone.

use super::*;
use crate::clock::Clock;
use crate::telemetry::metric::Metrics;
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::sync::Mutex;

const LONG: Duration = Duration::from_secs(60);

fn metrics() -> Arc<AccessLogMetrics> {
    Metrics::new(1, &Clock::system()).access_log()
}

fn entry() -> Entry<'static> {
    Entry {
        time: Duration::from_millis(1_795_000_000_007),
        id: "01J",
        client: IpAddr::from([192, 0, 2, 1]),
        method: "GET",
        path: "/api/employee/7",
        api: Some("employee-api"),
        operation: None,
        consumer: Some("mobile-app"),
        product: Some("starter"),
        status: 200,
        bytes_in: 0,
        bytes_out: 1_024,
        total: Duration::from_micros(1_500),
        upstream: Some(Duration::from_micros(1_200)),
        answered: Answered::Upstream,
        reason: Reason::Proxied,
        listener: "public",
        protocol: "HTTP/1.1",
        user_agent: None,
    }
}

fn text(entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    line::write(&mut out, &mut Stamp::default(), entry);
    String::from_utf8(out).unwrap()
}

fn parsed(entry: &Entry<'_>) -> Value {
    let text = text(entry);
    assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text:?}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_line_is_as_documented() {
    let expected = concat!(
        r#"{"time":"2026-11-18T11:06:40.007Z","id":"01J","client":"192.0.2.1","method":"GET","#,
        r#""path":"/api/employee/7","api":"employee-api","consumer":"mobile-app","product":"starter","#,
        r#""status":200,"bytes_in":0,"bytes_out":1024,"total_us":1500,"upstream_us":1200,"#,
        r#""answered":"upstream","reason":"proxied","listener":"public","protocol":"HTTP/1.1"}"#,
        "\n"
    );
    assert_eq!(text(&entry()), expected);
}

#[test]
fn who_answered_and_why_is_told() {
    let answered = Answered::Policy("corporate-jwt");
    let line = parsed(&Entry { answered, reason: Reason::Answered, upstream: None, ..entry() });
    assert_eq!((&line["answered"], &line["policy"]), (&"policy".into(), &"corporate-jwt".into()));
    assert_eq!((&line["reason"], line.get("upstream_us")), (&"answered".into(), None));
}

#[test]
fn a_query_never_gets_into_the_log() {
    let line = parsed(&Entry { path: "/a?apikey=K?b", ..entry() });
    assert_eq!(line["path"], "/a");
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    let path = "é".repeat(line::TEXT_BYTES_MAX);
    let line = parsed(&Entry { path: &path, ..entry() });
    let expected = "é".repeat(line::TEXT_BYTES_MAX / 2) + "…";
    assert_eq!(line["path"], expected);
}

#[test]
fn the_second_is_written_anew_when_it_changes() {
    let mut stamp = Stamp::default();
    let times = [0_u64, 999, 1_000, 500, 253_402_300_799_999, u64::MAX];
    let seen = times.map(|millis| {
        let mut out = Vec::new();
        line::write(&mut out, &mut stamp, &Entry { time: Duration::from_millis(millis), ..entry() });
        serde_json::from_slice::<Value>(&out).unwrap()["time"].as_str().unwrap().to_owned()
    });
    let expected = [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:00.999Z",
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:00.500Z",
    ];
    assert_eq!(&seen[..4], expected);
    assert_eq!(seen[5], "1970-01-01T00:00:00.615Z", "a time out of range is no panic");
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        words in prop::array::uniform8(any::<String>()),
        agent in prop::collection::vec(any::<u8>(), 0..64),
        numbers in any::<[u64; 4]>(),
        status in any::<u16>(),
        client in any::<IpAddr>(),
    ) {
        let [id, method, path, api, operation, consumer, product, listener] = &words;
        let entry = Entry {
            id, method, path, listener, client, status,
            api: Some(api), operation: Some(operation), consumer: Some(consumer), product: Some(product),
            bytes_in: numbers[0], bytes_out: numbers[1], total: Duration::from_micros(numbers[2]),
            upstream: Some(Duration::from_micros(numbers[3])), answered: Answered::Policy(api),
            user_agent: Some(&agent), ..entry()
        };
        let line = parsed(&entry);
        let pairs: [(&str, Value); 16] = [
            ("id", id.as_str().into()), ("method", method.as_str().into()),
            ("path", path.split('?').next().into()), ("api", api.as_str().into()),
            ("operation", operation.as_str().into()), ("consumer", consumer.as_str().into()),
            ("product", product.as_str().into()), ("policy", api.as_str().into()),
            ("listener", listener.as_str().into()), ("client", client.to_string().into()),
            ("status", status.into()), ("bytes_in", numbers[0].into()), ("bytes_out", numbers[1].into()),
            ("total_us", numbers[2].into()), ("upstream_us", numbers[3].into()),
            ("user_agent", String::from_utf8_lossy(&agent).into()),
        ];
        for (name, value) in pairs {
            prop_assert_eq!(&line[name], &value, "{}", name);
        }
        prop_assert!(!text(&entry).trim_end_matches('\n').chars().any(char::is_control));
    }
}

#[test]
fn lines_of_all_workers_reach_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let metrics = metrics();
    let log = AccessLog::open(Destination::File(path.clone()), metrics.clone()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let worker = log.worker();
                (0..1_000).for_each(|_| worker.write(&entry()));
            });
        }
    });
    assert!(log.flush_all(LONG));
    let text = fs::read_to_string(path).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let written = text.lines().count() as u64;
    assert_eq!(written, metrics.lines.get());
    assert_eq!(written + metrics.dropped.get(), 3_000);
}

#[test]
fn a_flush_shows_few_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let log = AccessLog::open(Destination::File(path.clone()), metrics()).unwrap();
    let worker = log.worker();
    worker.write(&entry());
    worker.flush();
    worker.flush();
    assert!(log.flush_all(LONG));
    assert_eq!(fs::read_to_string(path).unwrap(), text(&entry()));
}

#[test]
fn a_rotated_file_is_opened_anew_and_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    fs::write(&path, "before\n").unwrap();
    let log = AccessLog::open(Destination::File(path.clone()), metrics()).unwrap();
    let worker = log.worker();
    let write = || {
        worker.write(&entry());
        worker.flush();
        assert!(log.flush_all(LONG));
    };
    write();
    fs::rename(&path, &old).unwrap();
    write();
    log.reopen();
    write();
    assert_eq!(fs::read_to_string(&old).unwrap(), format!("before\n{0}{0}", text(&entry())));
    assert_eq!(fs::read_to_string(&path).unwrap(), text(&entry()));
    // The directory is gone: the file that is open goes on.
    fs::remove_dir_all(directory.path()).unwrap();
    log.reopen();
    write();
}

#[test]
fn a_file_that_cannot_be_opened_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let opened = AccessLog::open(Destination::File(directory.path().to_owned()), metrics());
    assert!(opened.is_err());
}

/// Blocks until told what the next write is to give.
struct Scripted {
    answers: Receiver<io::Result<()>>,
    entered: SyncSender<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Sink for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _ = self.entered.try_send(());
        let answer = self.answers.recv().unwrap_or(Ok(()));
        let kept = if answer.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.written.lock().unwrap().extend_from_slice(&bytes[..kept]);
        answer
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log that writes to a `Scripted`, and the other ends of that.
struct Script {
    log: AccessLog,
    answer: SyncSender<io::Result<()>>,
    /// Told when a write begins.
    writing: Receiver<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

fn scripted() -> Script {
    let (answer, answers) = sync_channel(8);
    let (entered, writing) = sync_channel(1);
    let written = Arc::new(Mutex::new(Vec::new()));
    let sink = Scripted { answers, entered, written: written.clone() };
    let log = AccessLog::start(Box::new(sink), metrics()).unwrap();
    Script { log, answer, writing, written }
}

#[test]
fn a_stuck_destination_costs_lines_and_nothing_else() {
    let Script { log, answer, writing, written } = scripted();
    let worker = log.worker();
    worker.write(&entry());
    worker.flush();
    writing.recv().unwrap();
    // The writer is stuck. Everything a full channel cannot take is dropped, whole buffers each.
    let lines = (BUFFERS_QUEUED_MAX + 10) * BUFFER_BYTES / text(&entry()).len();
    (0..lines).for_each(|_| worker.write(&entry()));
    worker.flush();
    let dropped = log.shared.metrics.dropped.get();
    assert!(dropped > 0);
    assert!(!log.flush_all(Duration::ZERO), "nobody can wait for it");
    drop(worker);
    drop(answer);
    assert!(log.flush_all(LONG));
    assert_eq!(log.shared.metrics.dropped.get(), dropped);
    let written = written.lock().unwrap();
    assert_eq!(written.iter().filter(|byte| **byte == b'\n').count() as u64, 1 + lines as u64 - dropped);
}

#[test]
fn a_failed_write_tears_one_line_only() {
    let Script { log, answer, written, .. } = scripted();
    let worker = log.worker();
    answer.send(Err(io::Error::other("disk full"))).unwrap();
    for _ in 0..2 {
        worker.write(&entry());
        worker.flush();
    }
    drop(answer);
    assert!(log.flush_all(LONG));
    let expected = text(&entry());
    let expected = format!("{}\n{expected}", &expected[..expected.len() / 2]);
    assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), expected);
    assert_eq!((log.shared.metrics.lines.get(), log.shared.metrics.dropped.get()), (1, 1));
}

#[test]
fn buffers_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(Destination::File(directory.path().join("a")), metrics()).unwrap();
    let worker = log.worker();
    worker.write(&entry());
    let first = worker.state.borrow().bytes.as_ptr();
    worker.flush();
    assert!(log.flush_all(LONG));
    worker.write(&entry());
    worker.flush();
    assert_eq!(worker.state.borrow().bytes.as_ptr(), first);
}
