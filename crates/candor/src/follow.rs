//! Following a log file over rotation: not one line lost, not one read twice.
//!
//! A place in a log is (device, inode, the first 1 KiB, offset). The first bytes tell one log from the next where an
//! inode is used again, or where `copytruncate` keeps it: the copy has them too, so what was not read before the
//! truncation is read there. Rotated files are looked for beside the log by the names that logrotate gives them;
//! compressed ones are not read, and a place that is found nowhere any more is told as a gap.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use proof::time::UnixMillis;

/// Bytes at a file's start that tell it from others.
const HEAD_BYTES: usize = 1024;
/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a line, at most; what is over is skipped and the line told as too long.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// A log that was renamed is left once it stood still for this many polls: its writer may still have it open.
const QUIET_POLLS: u32 = 10;
/// Looks at a folder that is being rotated, until two of them agree.
const LOOKS_MAX: u32 = 20;
/// Between two such looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A place in a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub device: u64,
    pub inode: u64,
    /// The first bytes, up to 1 KiB; the whole lines of them while the log is shorter: half a stamp is like any other.
    pub head: Vec<u8>,
    pub offset: u64,
}

/// What a step brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Lines, in [`Follower::lines`].
    Lines,
    /// Nothing for now.
    Idle,
    /// The end of the last file, where nothing is followed.
    End,
    /// What stood after the last place can't be found any more; reading goes on at the log's start.
    Lost,
}

/// One open file.
struct Open {
    file: File,
    device: u64,
    inode: u64,
    head: Vec<u8>,
    offset: u64,
}

impl Open {
    fn new(path: &Path) -> io::Result<Open> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let mut open = Open { file, device: meta.dev(), inode: meta.ino(), head: Vec::new(), offset: 0 };
        open.head = open.read_head(HEAD_BYTES)?;
        Ok(open)
    }

    fn read_head(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut have = 0;
        while have < count {
            match self.file.read_at(&mut bytes[have..], have as u64)? {
                0 => break,
                read => have += read,
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }

    /// The beginning that tells it from others.
    fn mark(&self) -> &[u8] {
        match memchr::memrchr(b'\n', &self.head) {
            _ if self.head.len() >= HEAD_BYTES => &self.head,
            Some(end) => &self.head[..=end],
            None => b"",
        }
    }

    /// Whether it is the log of a place, or a copy of it.
    fn has(&self, place: &Place) -> io::Result<bool> {
        let begins = match place.head.as_slice() {
            // It was empty then: only the file itself tells.
            [] => (self.device, self.inode) == (place.device, place.inode),
            head => self.head.starts_with(head),
        };
        Ok(begins && self.file.metadata()?.len() >= place.offset)
    }

    /// Whether the file still begins as it did; learns more of its beginning as it grows.
    fn is_same(&mut self) -> io::Result<bool> {
        let now = self.read_head(HEAD_BYTES)?;
        let same = now.starts_with(&self.head);
        if same {
            self.head = now;
        }
        Ok(same)
    }
}

/// A file beside the log.
struct Beside {
    name: OsString,
    /// Time of its last write.
    written: (i64, i64),
    open: Open,
}

/// See the module.
pub struct Follower {
    path: PathBuf,
    follow: bool,
    open: Option<Open>,
    /// Rotated files to be read before the log, oldest first. Open: their names are others' a moment later.
    queue: VecDeque<Open>,
    /// Bytes read and not yet taken; the first ones begin a line.
    buffer: Vec<u8>,
    /// Whether what comes next belongs to a line that was too long.
    skipping: bool,
    quiet: u32,
    /// Lines of the last step; one that was too long is `None`.
    pub lines: Vec<Option<Vec<u8>>>,
    lost: bool,
}

impl Follower {
    /// Opens a log, at a place where reading stopped before or at its start.
    pub fn open(path: &Path, place: Option<&Place>, follow: bool) -> io::Result<Follower> {
        let mut follower = Follower {
            path: path.to_owned(),
            follow,
            open: None,
            queue: VecDeque::new(),
            buffer: Vec::new(),
            skipping: false,
            quiet: 0,
            lines: Vec::new(),
            lost: false,
        };
        let live = Open::new(path);
        match place {
            None => follower.open = Some(live?),
            Some(place) => follower.resume(live, place)?,
        }
        Ok(follower)
    }

    fn resume(&mut self, live: io::Result<Open>, place: &Place) -> io::Result<()> {
        if let Ok(mut open) = live
            && open.has(place)?
        {
            open.offset = place.offset;
            self.open = Some(open);
            return Ok(());
        }
        match self.find_rotated(place)? {
            Some((open, later)) => {
                self.open = Some(open);
                self.queue = later;
            }
            // Nothing was ever read of an empty log: nothing is lost with it.
            None => self.lost = !place.head.is_empty(),
        }
        Ok(())
    }

    /// The rotated file that has a place, opened there, and the files rotated after it.
    fn find_rotated(&self, place: &Place) -> io::Result<Option<(Open, VecDeque<Open>)>> {
        let mut rotated = self.rotated()?;
        for at in (0..rotated.len()).rev() {
            if rotated[at].has(place)? {
                let later = rotated.split_off(at + 1).into();
                let found = rotated.pop().map(|open| (Open { offset: place.offset, ..open }, later));
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Files beside the log that logrotate may have made of it, open, the oldest first. Names move while they are looked
    /// at: the look is taken again until it is the same twice.
    fn rotated(&self) -> io::Result<Vec<Open>> {
        let mut before = None;
        for _ in 0..LOOKS_MAX {
            let mut found = self.look_beside()?;
            let names: Vec<_> = found.iter().map(|beside| (beside.name.clone(), beside.open.inode)).collect();
            if before.as_ref() == Some(&names) {
                found.sort_by_key(|beside| beside.written);
                return Ok(found.into_iter().map(|beside| beside.open).collect());
            }
            if before.replace(names).is_some() {
                std::thread::park_timeout(LOOK_AGAIN);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the files beside the log do not come to rest"))
    }

    /// One look at the files beside the log, in order of their names.
    fn look_beside(&self) -> io::Result<Vec<Beside>> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
        let mut found = Vec::new();
        for item in std::fs::read_dir(folder)? {
            let other = item?.file_name();
            let Some(suffix) = other.as_encoded_bytes().strip_prefix(name.as_slice()) else { continue };
            let numbered = matches!(suffix.split_first(), Some((b'.' | b'-', digits))
                if !digits.is_empty() && digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-'));
            if !numbered {
                continue;
            }
            // One that went meanwhile has another name now: the next look has it.
            let Ok(open) = Open::new(&folder.join(&other)) else { continue };
            let meta = open.file.metadata()?;
            if meta.is_file() {
                found.push(Beside { name: other, written: (meta.mtime(), meta.mtime_nsec()), open });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Where the first byte stands that no step has given out as part of a line.
    pub fn place(&self) -> Option<Place> {
        let open = self.open.as_ref()?;
        let offset = open.offset - self.buffer.len() as u64;
        Some(Place { device: open.device, inode: open.inode, head: open.mark().to_vec(), offset })
    }

    /// When the file was last written to: what a stamp without a year is near to.
    pub fn written(&self) -> Option<UnixMillis> {
        let modified = self.open.as_ref()?.file.metadata().ok()?.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        Some(UnixMillis(u64::try_from(since.as_millis()).ok()?))
    }

    /// What stands at the end without an end of line.
    pub fn half_line(&self) -> &[u8] {
        if self.skipping { b"" } else { &self.buffer }
    }

    /// Reads on.
    pub fn step(&mut self) -> io::Result<Step> {
        self.lines.clear();
        if std::mem::take(&mut self.lost) {
            return Ok(Step::Lost);
        }
        if self.open.is_none() {
            match Open::new(&self.path) {
                Ok(open) => self.open = Some(open),
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.follow => return Ok(Step::Idle),
                Err(error) => return Err(error),
            }
        }
        let Some(open) = &mut self.open else { return Ok(Step::Idle) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = open.file.read_at(&mut chunk, open.offset)?;
        // Only now: what was read before a truncation is good, what was read after it belongs to other lines.
        if !open.is_same()? || read == 0 && open.file.metadata()?.len() < open.offset {
            return self.truncated();
        }
        if read > 0 {
            open.offset += read as u64;
            self.quiet = 0;
            self.take(&chunk[..read]);
            return Ok(Step::Lines);
        }
        self.at_end()
    }

    /// The log was copied and cut: the copy has what was not read.
    fn truncated(&mut self) -> io::Result<Step> {
        let place = self.place().unwrap_or_default();
        self.buffer.clear();
        self.skipping = false;
        self.open = None;
        match self.find_rotated(&place)? {
            Some((open, later)) => {
                self.open = Some(open);
                self.queue = later;
                Ok(Step::Lines)
            }
            None => Ok(Step::Lost),
        }
    }

    fn at_end(&mut self) -> io::Result<Step> {
        let Some(open) = &self.open else { return Ok(Step::Idle) };
        let live = std::fs::metadata(&self.path);
        let is_live = live.as_ref().is_ok_and(|meta| (meta.dev(), meta.ino()) == (open.device, open.inode));
        if is_live {
            return Ok(if self.follow { Step::Idle } else { Step::End });
        }
        // A file that was renamed away, or a rotated one read to its end. While there is no new log there is nothing
        // to go on to, and its writer may still write here.
        if self.queue.is_empty() && live.is_err() && self.follow {
            return Ok(Step::Idle);
        }
        if self.queue.is_empty() && self.follow && self.quiet < QUIET_POLLS {
            self.quiet += 1;
            return Ok(Step::Idle);
        }
        self.leave()
    }

    /// Goes on to the next file. A line without an end will not get one any more.
    fn leave(&mut self) -> io::Result<Step> {
        self.quiet = 0;
        if self.queue.is_empty()
            && let Some(place) = self.place()
            && let Some((open, later)) = self.find_rotated(&place)?
            && open.inode == place.inode
        {
            // More than one rotation since the last look.
            self.queue = later;
        }
        let mut next = self.queue.pop_front().or_else(|| Open::new(&self.path).ok());
        if let (Some(open), Some(next_open)) = (&self.open, &mut next) {
            let mark = open.mark();
            if !mark.is_empty() && next_open.head.starts_with(mark) && next_open.file.metadata()?.len() >= open.offset {
                // Copied and not cut yet: it goes on where the copy ends.
                next_open.offset = open.offset;
                self.open = next;
                return Ok(Step::Lines);
            }
            if open.file.metadata()?.len() > open.offset {
                // The copy was not whole when its end was read.
                self.queue.extend(next);
                self.queue.rotate_right(1);
                return Ok(Step::Lines);
            }
        }
        let half = std::mem::take(&mut self.buffer);
        if !half.is_empty() && !std::mem::take(&mut self.skipping) {
            self.lines.push(Some(half));
        }
        self.open = next;
        Ok(Step::Lines)
    }

    /// Takes bytes apart into lines.
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            bytes = rest;
            let too_long = self.skipping || self.buffer.len() + line.len() > LINE_BYTES_MAX;
            self.skipping = false;
            if too_long {
                self.buffer.clear();
                self.lines.push(None);
            } else if self.buffer.is_empty() {
                self.lines.push(Some(line.to_vec()));
            } else {
                self.buffer.extend_from_slice(line);
                self.lines.push(Some(std::mem::take(&mut self.buffer)));
            }
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() > LINE_BYTES_MAX {
            self.skipping = true;
            self.buffer.truncate(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Reads until nothing is left for now; gives the lines.
    fn drain(follower: &mut Follower) -> Vec<String> {
        let mut found = Vec::new();
        let mut idle = 0;
        while idle <= QUIET_POLLS + 1 {
            match follower.step().expect("it reads") {
                Step::Lines => idle = 0,
                Step::Idle => idle += 1,
                Step::End => break,
                Step::Lost => found.push("LOST".into()),
            }
            found.extend(follower.lines.iter().map(|line| match line {
                Some(line) => String::from_utf8_lossy(line).into_owned(),
                None => "TOO LONG".into(),
            }));
        }
        found
    }

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("open");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn a_renamed_log_is_read_to_its_end_before_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("mail.log");
        append(&log, "one\ntw");
        let mut follower = Follower::open(&log, None, true).expect("open");
        assert_eq!(drain(&mut follower), ["one"]);
        append(&log, "o\nthree\n");
        std::fs::rename(&log, folder.path().join("mail.log.1")).expect("renamed");
        append(&folder.path().join("mail.log.1"), "four\nhalf");
        append(&log, "five\n");
        assert_eq!(drain(&mut follower), ["two", "three", "four", "half", "five"]);
    }

    #[test]
    fn what_copytruncate_cut_away_is_read_from_the_copy() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("mail.log");
        append(&log, "one\n");
        let mut follower = Follower::open(&log, None, true).expect("open");
        assert_eq!(drain(&mut follower), ["one"]);
        append(&log, "two\nthree\n");
        std::fs::copy(&log, folder.path().join("mail.log.1")).expect("copied");
        std::fs::File::create(&log).expect("cut");
        // The new log is longer than the old one was: only its first bytes tell.
        append(&log, "another line that is longer\nlast\n");
        assert_eq!(drain(&mut follower), ["two", "three", "another line that is longer", "last"]);
    }

    #[test]
    fn reading_goes_on_after_two_rotations_and_a_lost_place_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("mail.log");
        let rotated = |n: u32| folder.path().join(format!("mail.log.{n}"));
        append(&log, "one\ntwo\n");
        let mut follower = Follower::open(&log, None, true).expect("open");
        assert_eq!(drain(&mut follower), ["one", "two"]);
        let place = follower.place().expect("a place");
        append(&log, "three\n");
        std::fs::rename(&log, rotated(2)).expect("renamed");
        append(&rotated(1), "four\n");
        // Rotated files are ordered by their time of change.
        let file = File::open(rotated(1)).expect("open");
        let later =
            file.metadata().and_then(|meta| meta.modified()).expect("a time") + std::time::Duration::from_secs(5);
        file.set_modified(later).expect("set");
        append(&log, "five\n");
        let mut again = Follower::open(&log, Some(&place), true).expect("open");
        assert_eq!(drain(&mut again), ["three", "four", "five"]);
        std::fs::remove_file(rotated(2)).expect("removed");
        let mut again = Follower::open(&log, Some(&place), true).expect("open");
        assert_eq!(drain(&mut again), ["LOST", "five"]);
    }

    #[test]
    fn a_rotation_while_rotated_files_are_read_skips_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("mail.log");
        let rotated = |n: u32| folder.path().join(format!("mail.log.{n}"));
        let mut later = 0;
        let mut file = |path: &Path, text: &str| {
            append(path, text);
            let file = File::open(path).expect("open");
            later += 5;
            let time = file.metadata().and_then(|meta| meta.modified()).expect("a time");
            file.set_modified(time + Duration::from_secs(later)).expect("set");
        };
        file(&rotated(2), "one\n");
        file(&rotated(1), "two\n");
        file(&log, "three\n");
        let place = Place { head: b"one\n".to_vec(), ..Place::default() };
        let mut follower = Follower::open(&log, Some(&place), true).expect("open");
        assert_eq!(follower.step().expect("it reads"), Step::Lines);
        for (from, to) in [(rotated(2), rotated(3)), (rotated(1), rotated(2)), (log.clone(), rotated(1))] {
            std::fs::rename(from, to).expect("renamed");
        }
        append(&log, "four\n");
        let first = follower.lines.clone();
        assert_eq!(first, [Some(b"one".to_vec())]);
        assert_eq!(drain(&mut follower), ["two", "three", "four"]);
    }

    #[test]
    fn a_copy_is_read_once_whole_or_not_and_cut_or_not() {
        for cut_before in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let log = folder.path().join("mail.log");
            let copy = folder.path().join("mail.log.1");
            append(&log, "one\ntwo\nthr");
            // Half of it is copied yet.
            append(&copy, "one\nt");
            let place = Place { head: b"one\n".to_vec(), ..Place::default() };
            let mut follower = Follower::open(&log, None, true).expect("open");
            let (open, later) = follower.find_rotated(&place).expect("read").expect("found");
            (follower.open, follower.queue) = (Some(open), later);
            assert_eq!(follower.step().expect("it reads"), Step::Lines);
            assert_eq!(follower.lines, [Some(b"one".to_vec())]);
            let rest = |follower: &mut Follower| {
                append(&log, "ee\n");
                std::fs::copy(&log, &copy).expect("copied");
                File::create(&log).expect("cut");
                append(&log, "four\n");
                drain(follower)
            };
            if cut_before {
                assert_eq!(rest(&mut follower), ["two", "three", "four"]);
            } else {
                assert_eq!(drain(&mut follower), ["two"]);
                assert_eq!(rest(&mut follower), ["three", "four"]);
            }
        }
    }

    #[test]
    fn half_a_first_line_is_no_mark() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("mail.log");
        append(&log, "Nov 23 ");
        let place = Follower::open(&log, None, true).expect("open").place().expect("a place");
        assert_eq!((place.head.as_slice(), place.offset), (b"".as_slice(), 0));
        append(&log, "one\n");
        std::fs::rename(&log, folder.path().join("mail.log.1")).expect("renamed");
        append(&log, "Nov 23 two\n");
        let mut again = Follower::open(&log, Some(&place), true).expect("open");
        assert_eq!(drain(&mut again), ["Nov 23 one", "Nov 23 two"]);
        std::fs::remove_file(folder.path().join("mail.log.1")).expect("removed");
        let place = Place { head: b"Nov 23 one\n".to_vec(), ..place };
        let mut again = Follower::open(&log, Some(&place), true).expect("open");
        assert_eq!(drain(&mut again), ["LOST", "Nov 23 two"], "not one of its lines was read");
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_the_next_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("mail.log");
        append(&log, &format!("one\n{}\ntwo\n", "x".repeat(10 << 20)));
        let mut follower = Follower::open(&log, None, false).expect("open");
        assert_eq!(drain(&mut follower), ["one", "TOO LONG", "two"]);
    }
}
