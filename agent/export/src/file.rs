//! Spans and events in files of OTLP JSON lines: a request a line, which the Collector's `otlpjsonfile` receiver reads. A file
//! that is full or old is renamed, and of those some are kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;

use crate::{
    config::{FileConfig, Signal},
    counters::Loss,
    otlp::{json, log, message},
    outcome::DeliveryOutcome,
    record::Record,
};

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
        let mut lines = vec![json::request(Signal::Traces, message::encode(batch))];
        let events: Vec<_> = batch.iter().filter(|record| record.has_event()).cloned().collect();
        if !events.is_empty() {
            lines.push(json::request(Signal::Logs, log::encode(&events)));
        }
        let files = Arc::clone(&self.files);
        let write = tokio::task::spawn_blocking(move || {
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
            .append(true)
            .mode(0o600)
            .custom_flags(NO_FOLLOW)
            .open(&self.config.path)?;
        let known = file.metadata()?;
        let since = known.created().or_else(|_| known.modified()).unwrap_or_else(|_| SystemTime::now());
        Ok(self.current.insert(Current { file, bytes: known.len(), since }))
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
    fn a_link_in_its_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(FileExporter::open(&FileConfig::new(link)).is_err());
        assert!(!target.exists());
    }
}
