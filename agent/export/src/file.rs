//! Spans and events in files of OTLP JSON lines: a request a line, which the Collector's `otlpjsonfile` receiver reads. A file
//! that is full or old is renamed, and of those some are kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;

use crate::{
    config::{FileConfig, Signal},
    counters::Loss,
    otlp::{halves::halves, json, log, message},
    outcome::DeliveryOutcome,
    record::Record,
};

/// Most bytes of a line, where it has several items: the Collector's receiver cuts longer ones than 1 MiB, unless it is told
/// otherwise (`max_log_size`), and ends itself at what is left.
const LONGEST_LINE: usize = 1_000 << 10;

/// Writes spans and events to a file.
#[derive(Debug)]
pub(super) struct FileExporter {
    files: Arc<Mutex<Files>>,
    /// The last batch could not be written.
    failing: bool,
}

impl FileExporter {
    /// # Errors
    /// When the file cannot be opened for writing.
    pub(super) fn open(config: &FileConfig) -> io::Result<Self> {
        let mut files = Files { config: config.clone(), current: None };
        files.open()?;
        Ok(Self { files: Arc::new(Mutex::new(files)), failing: false })
    }

    /// Writes a batch. That happens on another thread: a disk that hangs must not hold up other exporters.
    pub(super) async fn deliver(&mut self, batch: &[Arc<Record>]) -> DeliveryOutcome {
        let spans = batch.len() as u64;
        let events: Vec<_> = batch.iter().filter(|record| record.has_event()).cloned().collect();
        let mut lines = lines(Signal::Traces, message::encode(batch));
        if !events.is_empty() {
            lines = lines.zip(self::lines(Signal::Logs, log::encode(&events))).map(|(a, b)| [a, b].concat());
        }
        let files = Arc::clone(&self.files);
        let write = tokio::task::spawn_blocking(move || {
            let lines = lines.ok_or_else(|| io::Error::other("a batch cannot be said in JSON"))?;
            files.lock().unwrap_or_else(PoisonError::into_inner).write(&lines)
        });
        match write.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("{} is written again", self.path());
                }
                DeliveryOutcome::delivered(spans)
            }
            Err(why) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("cannot write {}: {why}; spans are lost until it can be", self.path());
                }
                DeliveryOutcome::lost(Loss::WriteFailed, spans)
            }
        }
    }

    fn path(&self) -> String {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.config.path.display().to_string()
    }
}

/// A request as JSON, in several where one were too long a line.
fn lines(signal: Signal, request: Bytes) -> Option<Vec<Bytes>> {
    let mut left = vec![request];
    let mut lines = Vec::new();
    while let Some(request) = left.pop() {
        let line = json::request(signal, request.clone())?;
        // One item that is too long stays whole: readers can be told to take longer lines.
        let parts = if line.len() > LONGEST_LINE { halves(signal, &request) } else { None };
        match parts {
            Some([(first, _), (second, _)]) => left.extend([second, first]),
            None => lines.push(line),
        }
    }
    Some(lines)
}

/// The file that is written, and those that are full.
#[derive(Debug)]
struct Files {
    config: FileConfig,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: File,
    /// What is in it, whole lines only.
    bytes: u64,
    since: SystemTime,
}

impl Files {
    fn open(&mut self) -> io::Result<&mut Current> {
        // Only its owner may read it: there may be content in it.
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .custom_flags(NO_FOLLOW)
            .open(&self.config.path)?;
        let known = file.metadata()?;
        let since = known.created().or_else(|_| known.modified()).unwrap_or_else(|_| SystemTime::now());
        let bytes = whole_lines(&file, known.len())?;
        if bytes < known.len() {
            tracing::warn!(
                "the last line of {} was cut off when it was written; its {} bytes are removed",
                self.config.path.display(),
                known.len() - bytes
            );
            file.set_len(bytes)?;
        }
        Ok(self.current.insert(Current { file, bytes, since }))
    }

    fn write(&mut self, lines: &[Bytes]) -> io::Result<()> {
        let bytes: u64 = lines.iter().map(|line| line.len() as u64 + 1).sum();
        if self.current.as_ref().is_some_and(|current| self.is_full(current, bytes)) {
            self.rotate()?;
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => self.open()?,
        };
        let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        for line in lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        match current.file.write_all(&text) {
            Ok(()) => {
                current.bytes += bytes;
                Ok(())
            }
            Err(why) => {
                // Half a line would spoil the one behind it.
                let _half_stays = current.file.set_len(current.bytes);
                self.current = None;
                Err(why)
            }
        }
    }

    fn is_full(&self, current: &Current, more: u64) -> bool {
        let old = current.since.elapsed().is_ok_and(|age| age >= self.config.max_age);
        current.bytes > 0 && (old || current.bytes + more > self.config.max_bytes)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.current = None;
        let name = |number: usize| {
            let mut name = self.config.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let gone = |result: io::Result<()>| match result {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        };
        if self.config.max_files == 0 {
            return gone(fs::remove_file(&self.config.path));
        }
        for number in (1..self.config.max_files).rev() {
            gone(fs::rename(name(number), name(number + 1)))?;
        }
        gone(fs::rename(&self.config.path, name(1)))
    }
}

/// The length of a file without what is behind its last line, if that is half a line of ours, which readers stumble over.
fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut piece = Vec::new();
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        piece.resize(usize::try_from(end - start).unwrap_or_default(), 0);
        file.read_exact_at(&mut piece, start)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end == length {
        return Ok(length);
    }
    // Of what is not ours nothing is removed.
    let mut begin = [0; BEGIN.len()];
    let read = file.read_at(&mut begin, end)?;
    if BEGIN.starts_with(&begin[..read]) {
        return Ok(end);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "its last line is not one of OTLP JSON: name another file",
    ))
}

/// How every line of ours begins.
const BEGIN: &[u8] = br#"{"resource"#;

/// A link in the place of the file may lead to somebody else's.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::tests::record;

    fn deliver(exporter: &mut FileExporter, batch: &[Arc<Record>]) -> DeliveryOutcome {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(exporter.deliver(batch))
    }

    /// The spans of a file, by the last byte of their ids.
    fn spans(path: &std::path::Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'));
        let requests = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        requests
            .flat_map(|request| request["resourceSpans"].as_array().cloned().unwrap_or_default())
            .flat_map(|group| group["scopeSpans"][0]["spans"].as_array().cloned().unwrap_or_default())
            .map(|span| u64::from_str_radix(span["spanId"].as_str().unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn lines_are_appended_across_restarts_and_only_the_owner_reads_them() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let config = FileConfig::new(folder.path().join("spans.jsonl"));
        for id in [1, 2] {
            let mut exporter = FileExporter::open(&config).unwrap();
            assert_eq!(deliver(&mut exporter, &[record(id)]), DeliveryOutcome::delivered(1));
        }
        assert_eq!(spans(&config.path), [1, 2]);
        assert_eq!(fs::metadata(&config.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn full_and_old_files_are_renamed_and_only_some_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spans.jsonl");
        let config = FileConfig { max_bytes: 10, max_files: 2, ..FileConfig::new(path.clone()) };
        let mut exporter = FileExporter::open(&config).unwrap();
        for id in 1..=4 {
            deliver(&mut exporter, &[record(id)]);
        }
        assert_eq!(spans(&path), [4]);
        assert_eq!(spans(&folder.path().join("spans.jsonl.1")), [3]);
        assert_eq!(spans(&folder.path().join("spans.jsonl.2")), [2]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        let old = FileConfig { max_age: Duration::ZERO, ..FileConfig::new(path.clone()) };
        deliver(&mut FileExporter::open(&old).unwrap(), &[record(5)]);
        assert_eq!(spans(&path), [5]);
    }

    #[test]
    fn a_file_that_cannot_be_written_loses_the_batch_and_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("logs");
        fs::create_dir(&inner).unwrap();
        let config = FileConfig { max_bytes: 10, ..FileConfig::new(inner.join("spans.jsonl")) };
        let mut exporter = FileExporter::open(&config).unwrap();
        assert_eq!(deliver(&mut exporter, &[record(1)]), DeliveryOutcome::delivered(1));
        fs::remove_dir_all(&inner).unwrap();
        assert_eq!(deliver(&mut exporter, &[record(2)]), DeliveryOutcome::lost(Loss::WriteFailed, 1));
        fs::create_dir(&inner).unwrap();
        assert_eq!(deliver(&mut exporter, &[record(3)]), DeliveryOutcome::delivered(1));
        assert_eq!(spans(&config.path), [3]);
    }

    #[test]
    fn half_a_line_that_a_kill_left_is_removed_and_nothing_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let config = FileConfig::new(folder.path().join("spans.jsonl"));
        let whole = json::request(Signal::Traces, message::encode(&[record(1)])).unwrap();
        let half = [&whole[..], b"\n", &whole[..], &b"x".repeat(200_000)].concat();
        for half in [&half[..], &half[..whole.len() + 4], &whole[..9], &whole] {
            fs::write(&config.path, half).unwrap();
            deliver(&mut FileExporter::open(&config).unwrap(), &[record(2)]);
            let kept: &[u64] = if half.contains(&b'\n') { &[1, 2] } else { &[2] };
            assert_eq!(spans(&config.path), kept);
        }
        for theirs in ["notes", "notes\nmore"] {
            fs::write(&config.path, theirs).unwrap();
            let why = FileExporter::open(&config).unwrap_err().to_string();
            assert!(why.contains("name another file"), "{why}");
            assert_eq!(fs::read_to_string(&config.path).unwrap(), theirs);
        }
    }

    #[test]
    fn no_line_is_longer_than_the_collector_reads() {
        let folder = tempfile::tempdir().unwrap();
        let config = FileConfig::new(folder.path().join("spans.jsonl"));
        let batch: Vec<_> = (1..=5)
            .map(|id| {
                let mut large = (*record(id)).clone();
                large.span.name = "x".repeat(if id == 4 { 1_200_000 } else { 400_000 });
                Arc::new(large)
            })
            .collect();
        let mut exporter = FileExporter::open(&config).unwrap();
        assert_eq!(deliver(&mut exporter, &batch), DeliveryOutcome::delivered(5));
        assert_eq!(spans(&config.path), [1, 2, 3, 4, 5]);
        let text = fs::read_to_string(&config.path).unwrap();
        let longest: Vec<usize> = text.lines().map(str::len).filter(|length| *length >= 1 << 20).collect();
        assert_eq!(longest.len(), 1, "{longest:?}");
    }

    #[test]
    fn a_disk_that_is_full_loses_the_batch() {
        let config = FileConfig::new("/dev/full".into());
        let mut exporter = FileExporter::open(&config).unwrap();
        for _ in 0..2 {
            assert_eq!(
                deliver(&mut exporter, &[record(1), record(2)]),
                DeliveryOutcome::lost(Loss::WriteFailed, 2)
            );
        }
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(FileExporter::open(&FileConfig::new(link)).is_err());
        assert!(!target.exists());
    }
}
