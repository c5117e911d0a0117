//! Which file system a mapped file lies on, learned without asking it.
//!
//! A request that the server of a FUSE file system has read and does not answer cannot be interrupted, not even by
//! SIGKILL: a thread that waits for one keeps the agent's process from ending. So such files are not even opened.

use std::{fs, os::unix::fs::MetadataExt as _, sync::LazyLock};

use super::file::Refused;

/// Whether files of this mount and device may be opened. A process may have mapped them before it got mounts of its
/// own, so that those of the host and the device count, too.
pub(super) fn check(process: &str, mount: u64, device: u64) -> Result<(), Refused> {
    let tables = [process, "self", "1"].map(table);
    let mut all = tables.iter().flat_map(|table| lines(table));
    let Some(found) = all.find(|line| line.id == mount || line.device == Some(device)) else {
        // Memory files have a mount that no mount table lists.
        return if Some(device) == *MEMORY_FILES { Ok(()) } else { Err(Refused::Unmounted) };
    };
    // What lies below an overlay is named as whoever mounted it saw it.
    let below_fuse = |path: &str| tables.iter().any(|table| is_on_fuse(table, path));
    if found.is_fuse() || found.kind == "overlay" && found.layers().any(|path| below_fuse(&path)) {
        return Err(Refused::Fuse);
    }
    Ok(())
}

/// Where memfd_create(2) puts files.
static MEMORY_FILES: LazyLock<Option<u64>> = LazyLock::new(|| {
    let file = rustix::fs::memfd_create("probe", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let device = fs::File::from(file).metadata().ok()?.dev();
    Some(u64::from(rustix::fs::major(device)) << 32 | u64::from(rustix::fs::minor(device)))
});

fn table(process: &str) -> String {
    // A process that is gone has none.
    let bytes = fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Line<'a> {
    id: u64,
    device: Option<u64>,
    at: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn lines(table: &str) -> impl Iterator<Item = Line<'_>> {
    table.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let mut file_system = file_system.splitn(3, ' ');
        Some(Line {
            id: mount.next()?.parse().ok()?,
            device: mount.nth(1).and_then(device),
            at: mount.nth(1)?,
            kind: file_system.next()?,
            options: file_system.nth(1).unwrap_or_default(),
        })
    })
}

/// `major:minor`
fn device(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(major.parse::<u64>().ok()? << 32 | minor.parse::<u64>().ok()?)
}

impl Line<'_> {
    fn is_fuse(&self) -> bool {
        self.kind == "fuse" || self.kind == "fuseblk" || self.kind.starts_with("fuse.")
    }

    /// The folders that an overlay is made of.
    fn layers(&self) -> impl Iterator<Item = String> {
        const LAYERS: &[&str] = &["lowerdir", "lowerdir+", "datadir+", "upperdir"];
        let options = self.options.split(',').filter_map(|option| option.split_once('='));
        let layers = options.filter(|(name, _)| LAYERS.contains(name)).map(|(_, folders)| folders);
        layers.flat_map(|folders| folders.split(':').map(str::to_owned).collect::<Vec<_>>())
    }
}

/// Whether a path lies on FUSE, going by names. (Names with blanks are escaped in both places.)
fn is_on_fuse(table: &str, path: &str) -> bool {
    let above = lines(table).filter(|line| {
        let rest = path.strip_prefix(line.at.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    // Of two mounts at one place the later one hides the other.
    above.max_by_key(|line| line.at.len()).is_some_and(|line| line.is_fuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 21 0:50 / /mnt/images rw,nosuid - fuse.lazy lazy rw,user_id=0
31 21 0:51 / /mnt/images/plain rw - tmpfs tmpfs rw
40 21 0:60 / /merged rw - overlay overlay rw,lowerdir=/a:/mnt/images/b,upperdir=/u,workdir=/w
41 21 0:61 / /host rw - virtiofs host rw
";

    #[test]
    fn what_lies_on_fuse_is_told_by_names() {
        for (path, expected) in [
            ("/usr/lib", false),
            ("/mnt/images", true),
            ("/mnt/images/layer", true),
            ("/mnt/images/plain/layer", false),
            ("/mnt/imagesother", false),
        ] {
            assert_eq!(is_on_fuse(TABLE, path), expected, "{path}");
        }
        let fuse: Vec<u64> = lines(TABLE).filter(Line::is_fuse).map(|line| line.id).collect();
        assert_eq!(fuse, [30]);
        let devices: Vec<_> = lines(TABLE).filter_map(|line| line.device).collect();
        assert_eq!(devices, [254 << 32, 50, 51, 60, 61]);
        let overlay = lines(TABLE).find(|line| line.id == 40).unwrap();
        assert_eq!(overlay.layers().collect::<Vec<_>>(), ["/a", "/mnt/images/b", "/u"]);
    }

    #[test]
    fn this_program_and_memory_files_may_be_opened() {
        use crate::file::stat;
        let program = stat("/proc/self/exe".as_ref()).unwrap();
        check("self", program.1, program.0.device).unwrap();
        let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
        let memory = stat(path.as_ref()).unwrap();
        check("self", memory.1, memory.0.device).unwrap();
        assert!(matches!(check("self", u64::MAX, 0), Err(Refused::Unmounted)));
    }
}
