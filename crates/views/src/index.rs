//! The full-text index: tantivy, one segment for each [`PARTITION`] of entries, newest searched first.
//!
//! A commit of tantivy costs milliseconds and a merge costs more the larger it is, so a partition is committed once,
//! when it is full or at a clean stop; until then the tail is searched. Eight partitions are later merged into one,
//! and those never again: the cost of an entry does not grow with the trail.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Wake};

use tantivy::columnar::Column;
use tantivy::indexer::NoMergePolicy;
use tantivy::query::{ConstScorer, EnableScoring, Explanation, Query as TantivyQuery, Scorer, Weight};
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};
use tantivy::{
    DocId, DocSet, FutureResult, Index, IndexReader, IndexWriter, ReloadPolicy, Score, SegmentMeta, SegmentReader,
    TERMINATED, TantivyDocument, Term,
};

use crate::error::{Error, index};
use crate::file::Vault;
use crate::folder::EncryptedFolder;

/// Entries in a partition: the most that the tail holds, and that a crash leaves to index again.
pub const PARTITION: u64 = 65_536;
/// Partitions merged into one.
const MERGE_WIDTH: usize = 8;
/// Memory of the writer: a partition of ordinary records fits, so that a commit makes one segment.
const WRITER_BYTES: usize = 96 << 20;

/// Splits at spaces: the words were made before.
#[derive(Clone, Default)]
struct Spaces;

struct SpaceStream<'a> {
    rest: &'a str,
    token: Token,
}

impl Tokenizer for Spaces {
    type TokenStream<'a> = SpaceStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> SpaceStream<'a> {
        SpaceStream {
            rest: text,
            token: Token { text: String::with_capacity(64), position: usize::MAX, ..Token::default() },
        }
    }
}

impl TokenStream for SpaceStream<'_> {
    fn advance(&mut self) -> bool {
        if self.rest.is_empty() {
            return false;
        }
        let (word, rest) = self.rest.split_once(' ').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.token.text.clear();
        self.token.text.push_str(word);
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Words and filters, all of which must be there.
    pub words: Vec<String>,
    /// Not before this time (milliseconds).
    pub from_ms: Option<u64>,
    /// Before this time (milliseconds).
    pub until_ms: Option<u64>,
    /// Only entries below this index, for the next page.
    pub below: Option<u64>,
    /// Hits, at most.
    pub limit: usize,
}

impl Query {
    pub(crate) fn fits(&self, entry: u64, time: u64) -> bool {
        self.below.is_none_or(|below| entry < below)
            && self.from_ms.is_none_or(|from| time >= from)
            && self.until_ms.is_none_or(|until| time < until)
    }
}

/// The index of one trail.
pub(crate) struct TextIndex {
    writer: IndexWriter,
    reader: IndexReader,
    words: Field,
    entry: Field,
    time: Field,
    cursor: u64,
    /// A merge that goes on beside the writing.
    merging: Option<FutureResult<Option<SegmentMeta>>>,
}

/// What searching needs; shared with reading threads.
#[derive(Clone)]
pub(crate) struct TextSearcher {
    reader: IndexReader,
    words: Field,
}

impl TextIndex {
    pub(crate) fn open(folder: &Path, vault: &Vault) -> Result<TextIndex, Error> {
        std::fs::create_dir_all(folder).map_err(crate::error::io("create"))?;
        let mut schema = Schema::builder();
        let indexing = TextFieldIndexing::default()
            .set_tokenizer("spaces")
            .set_index_option(IndexRecordOption::Basic)
            .set_fieldnorms(false);
        let words = schema.add_text_field("words", TextOptions::default().set_indexing_options(indexing));
        let entry = schema.add_u64_field("entry", FAST);
        let time = schema.add_u64_field("time", FAST);
        let held = Index::open_or_create(EncryptedFolder::new(folder, vault.clone()), schema.build())
            .map_err(index("open"))?;
        held.tokenizers().register("spaces", TextAnalyzer::from(Spaces));
        let writer: IndexWriter = held.writer_with_num_threads(1, WRITER_BYTES).map_err(index("open"))?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let payload = held.load_metas().map_err(index("open"))?.payload;
        let cursor = payload.and_then(|text| text.parse().ok()).unwrap_or(0);
        let reader = held.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(index("open"))?;
        Ok(TextIndex { writer, reader, words, entry, time, cursor, merging: None })
    }

    /// Entries below this index are in the index.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(crate) fn searcher(&self) -> TextSearcher {
        TextSearcher { reader: self.reader.clone(), words: self.words }
    }

    pub(crate) fn add(&self, entry: u64, time: u64, words: &str) -> Result<(), Error> {
        let mut document = TantivyDocument::new();
        document.add_text(self.words, words);
        document.add_u64(self.entry, entry);
        document.add_u64(self.time, time);
        self.writer.add_document(document).map(drop).map_err(index("write"))
    }

    /// Makes everything added findable and durable, with the cursor.
    pub(crate) fn commit(&mut self, cursor: u64) -> Result<(), Error> {
        let mut commit = self.writer.prepare_commit().map_err(index("commit"))?;
        commit.set_payload(&cursor.to_string());
        commit.commit().map_err(index("commit"))?;
        self.reader.reload().map_err(index("reload"))?;
        self.cursor = cursor;
        Ok(())
    }

    /// Begins to merge adjacent small segments where there are enough of them, one merge at a time. It goes on beside
    /// the writing; a stop in the middle of it leaves files that the next commit removes.
    pub(crate) fn merge_small(&mut self) -> Result<(), Error> {
        if let Some(merge) = &mut self.merging {
            match Pin::new(merge).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
                Poll::Pending => return Ok(()),
                Poll::Ready(merged) => drop(merged.map_err(index("merge"))?),
            }
            self.merging = None;
            self.reader.reload().map_err(index("reload"))?;
        }
        let mut small = Vec::new();
        let mut parts: Vec<(u64, u32, tantivy::index::SegmentId)> = Vec::new();
        for segment in self.reader.searcher().segment_readers() {
            parts.push((first_entry(segment)?, segment.max_doc(), segment.segment_id()));
        }
        parts.sort();
        for (_, count, id) in parts {
            if u64::from(count) <= 2 * PARTITION {
                small.push(id)
            } else {
                small.clear()
            }
            if small.len() == MERGE_WIDTH {
                self.merging = Some(self.writer.merge(&small));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Removes entries for good: marks them, and rewrites every segment that had one.
    pub(crate) fn forget(&mut self, entries: &[u64]) -> Result<(), Error> {
        let mut entries = entries.to_vec();
        entries.sort_unstable();
        self.purge(entries)
    }

    /// The same of many, which are in order.
    pub(crate) fn purge(&mut self, entries: Vec<u64>) -> Result<(), Error> {
        if let Some(merge) = self.merging.take() {
            finish(merge).map_err(index("merge"))?;
        }
        let query = Entries(Arc::new(entries));
        self.writer.delete_query(Box::new(query)).map_err(index("delete"))?;
        self.commit(self.cursor)?;
        let touched: Vec<_> = self
            .reader
            .searcher()
            .segment_readers()
            .iter()
            .filter(|segment| segment.has_deletes())
            .map(SegmentReader::segment_id)
            .collect();
        for segment in touched {
            self.writer.merge(&[segment]).wait().map_err(index("merge"))?;
        }
        self.commit(self.cursor)?;
        self.writer.garbage_collect_files().wait().map_err(index("clean"))?;
        Ok(())
    }
}

/// The documents of these entries, which are in order, as documents are: one pass over both.
#[derive(Debug, Clone)]
struct Entries(Arc<Vec<u64>>);

impl TantivyQuery for Entries {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Entries {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let column = reader.fast_fields().u64("entry")?;
        let mut wanted = self.0.as_slice();
        let mut documents = Vec::new();
        for document in 0..reader.max_doc() {
            let Some(entry) = column.first(document) else { continue };
            wanted = &wanted[wanted.partition_point(|wanted| *wanted < entry)..];
            match wanted.first() {
                None => break,
                Some(first) if *first == entry => documents.push(document),
                Some(_) => {}
            }
        }
        Ok(Box::new(ConstScorer::new(Documents { documents, at: 0 }, boost)))
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("Entries", 1.0))
    }
}

/// Documents in order.
struct Documents {
    documents: Vec<DocId>,
    at: usize,
}

impl DocSet for Documents {
    fn advance(&mut self) -> DocId {
        self.at += 1;
        self.doc()
    }

    fn doc(&self) -> DocId {
        self.documents.get(self.at).copied().unwrap_or(TERMINATED)
    }

    fn size_hint(&self) -> u32 {
        self.documents.len() as u32
    }
}

/// Wakes the thread that waits for a merge.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a merge. Its own `wait` may not be used once it was polled.
fn finish<T>(mut merge: FutureResult<T>) -> tantivy::Result<T> {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match Pin::new(&mut merge).poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn first_entry(segment: &SegmentReader) -> Result<u64, Error> {
    let column = segment.fast_fields().u64("entry").map_err(index("read"))?;
    Ok(column.first(0).unwrap_or(0))
}

impl TextSearcher {
    /// Entries that match, newest first, until `take` has had enough.
    pub(crate) fn search(&self, query: &Query, mut take: impl FnMut(u64) -> bool) -> Result<(), Error> {
        let searcher = self.reader.searcher();
        let mut segments = Vec::new();
        for segment in searcher.segment_readers() {
            segments.push((first_entry(segment)?, segment));
        }
        segments.sort_by_key(|(first, _)| std::cmp::Reverse(*first));
        for (first, segment) in segments {
            if query.below.is_some_and(|below| first >= below) {
                continue;
            }
            for entry in self.in_segment(segment, query)?.into_iter().rev() {
                if !take(entry) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Every match with its time, in no order of use; for counting.
    pub(crate) fn each(&self, query: &Query, mut take: impl FnMut(u64, u64)) -> Result<(), Error> {
        for segment in self.reader.searcher().segment_readers() {
            self.each_in_segment(segment, query, &mut take)?;
        }
        Ok(())
    }

    /// The newest `limit` matches of a segment, oldest first. Documents stand in the order of their entries.
    fn in_segment(&self, segment: &SegmentReader, query: &Query) -> Result<Vec<u64>, Error> {
        let mut found = std::collections::VecDeque::new();
        self.each_in_segment(segment, query, &mut |entry, _| {
            if found.len() == query.limit {
                found.pop_front();
            }
            found.push_back(entry);
        })?;
        Ok(found.into())
    }

    /// Every match of a segment with its entry and time, oldest first.
    fn each_in_segment(
        &self,
        segment: &SegmentReader,
        query: &Query,
        take: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let entries: Column<u64> = segment.fast_fields().u64("entry").map_err(index("read"))?;
        let times: Column<u64> = segment.fast_fields().u64("time").map_err(index("read"))?;
        let inverted = segment.inverted_index(self.words).map_err(index("read"))?;
        let mut lists = Vec::new();
        for word in &query.words {
            let term = Term::from_field_text(self.words, word);
            match inverted
                .read_postings(&term, IndexRecordOption::Basic)
                .map_err(|error| index("read")(error.into()))?
            {
                Some(postings) => lists.push(postings),
                None => return Ok(()),
            }
        }
        let mut keep = |document: u32| {
            let (entry, time) = (entries.first(document).unwrap_or(0), times.first(document).unwrap_or(0));
            let alive = segment.alive_bitset().is_none_or(|alive| alive.is_alive(document));
            if alive && query.fits(entry, time) {
                take(entry, time);
            }
        };
        // The rarest list leads; the others are sought along.
        lists.sort_by_key(DocSet::size_hint);
        let Some((lead, others)) = lists.split_first_mut() else {
            (0..segment.max_doc()).for_each(&mut keep);
            return Ok(());
        };
        let mut document = lead.doc();
        'documents: while document != TERMINATED {
            for other in others.iter_mut() {
                let at = if other.doc() < document { other.seek(document) } else { other.doc() };
                if at != document {
                    document = lead.seek(at);
                    continue 'documents;
                }
            }
            keep(document);
            document = lead.advance();
        }
        Ok(())
    }
}
