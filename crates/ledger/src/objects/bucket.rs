//! A bucket: objects made once, read by version, and their versions listed. Each call is one request; who calls decides
//! what an unclear end means.
//!
//! Objects go through `object_store`. Listing versions and locks are not among what it can do: these are requests of our
//! own, signed by it.

use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{Error, GetOptions, GetRange, ObjectStore, PutMode, PutOptions, RetryConfig, UpdateVersion};
use proof::encoding::base64;
use proof::hash::sha256;
use serde::Deserialize;

use super::url::BucketUrl;

/// Bytes of an answer that is no object, at most.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// Bytes of an object, at most: more than any frame with a segment's header.
pub(super) const OBJECT_BYTES_MAX: u64 = 512 << 20;
/// How often something is asked for that may be asked for again.
const TRIES: usize = 4;
/// Before the second time; it doubles.
const AGAIN: Duration = Duration::from_millis(50);
/// Versions of the objects of one segment, at most: ours are 64.
const VERSIONS_MAX: usize = 100_000;
/// A signed request is good for so long.
const SIGNED_FOR: Duration = Duration::from_secs(300);

/// What requests are signed with.
#[derive(Clone)]
pub struct Credentials {
    /// Access key id.
    pub id: String,
    /// Its secret.
    pub secret: zeroize::Zeroizing<String>,
    /// Token of a session, where there is one.
    pub token: Option<zeroize::Zeroizing<String>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// One version of an object, or a mark that says it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its key, without the bucket's prefix.
    pub name: String,
    /// Id by which it is read; "null" of what was put while the bucket kept no versions.
    pub id: Option<String>,
    /// Bytes; none of a delete marker.
    pub length: Option<u64>,
}

/// How the bucket locks what is put in it without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// Not at all: what is written can be written over.
    None,
    /// Object Lock is on, and objects are locked where a request says so.
    OnRequest,
    /// In compliance mode for so many days: nobody shortens it.
    Compliance(u32),
    /// In governance mode for so many days: who has the right passes it by.
    Governance(u32),
}

/// Why an object was not made.
#[derive(Debug)]
pub enum NotMade {
    /// Something stands at its key: perhaps what was sent before.
    Taken,
    /// Whether it was made is not known.
    Unclear(io::Error),
}

/// See the module.
pub struct Bucket {
    s3: AmazonS3,
    url: BucketUrl,
    agent: ureq::Agent,
    runtime: tokio::runtime::Runtime,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({})", self.url.bucket)
    }
}

/// Requests by ureq: every call here is one thread's, and waits.
#[derive(Debug, Clone)]
struct Http(ureq::Agent);

#[async_trait::async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        // One piece is not copied by this.
        let sent = http_body_util::BodyExt::collect(body).await?.to_bytes();
        let answer = run(&self.0, http::Request::from_parts(parts, sent.as_ref()));
        let (parts, mut body) = answer.map_err(|why| HttpError::new(HttpErrorKind::Request, why))?.into_parts();
        let read = body.with_config().limit(OBJECT_BYTES_MAX).read_to_vec();
        let bytes = read.map_err(|why| HttpError::new(HttpErrorKind::Interrupted, why))?;
        let body = http_body_util::Full::new(Bytes::from(bytes));
        let body = http_body_util::BodyExt::map_err(body, |never| match never {});
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// Sends a request, without any body where it has none.
fn run(agent: &ureq::Agent, request: http::Request<&[u8]>) -> Result<http::Response<ureq::Body>, ureq::Error> {
    if request.method() == Method::PUT { agent.run(request) } else { agent.run(request.map(|_| ())) }
}

impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

fn other(why: impl std::fmt::Display) -> io::Error {
    // What a store answers may repeat a request with its signature: the first line says enough.
    let text = why.to_string();
    let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    io::Error::other(line)
}

/// Asks for something that may be asked for again: one answer that is lost is no reason to end.
/// Versions of one object that are kept of a list: enough to tell that there are others. The oldest is the last one.
const VERSIONS_OF_ONE: usize = 8;

/// One version more, of an object whose versions follow one another, the newest first. Of many the middle ones are left
/// out, but for a delete marker: nobody makes a list too long to be read by putting one object again and again.
fn fold(found: &mut Vec<Version>, version: Version) {
    let begins = found.iter().rposition(|held| held.name != version.name).map_or(0, |before| before + 1);
    found.push(version);
    if found.len() - begins > VERSIONS_OF_ONE {
        let markers = found[begins..].iter().filter(|held| held.length.is_none()).count();
        let last = found.len() - 1;
        let middle = (begins + 1..last).find(|at| found[*at].length.is_some() || markers > 1);
        found.remove(middle.unwrap_or(begins + 1));
    }
}

fn again<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut pause = AGAIN;
    for _ in 1..TRIES {
        match ask() {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => std::thread::park_timeout(pause),
            end => return end,
        }
        pause *= 2;
    }
    ask()
}

/// A failure of `object_store`, by its sort: its texts carry URLs and answers.
fn failed(error: &Error) -> io::Error {
    let (kind, what) = match error {
        Error::NotFound { .. } => (io::ErrorKind::NotFound, "it is not there"),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            (io::ErrorKind::PermissionDenied, "the store refuses these credentials")
        }
        _ => (io::ErrorKind::Other, "the store does not answer, or not as S3 does: is the endpoint right?"),
    };
    io::Error::new(kind, what)
}

#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "IsTruncated", default)]
    truncated: bool,
    #[serde(rename = "NextKeyMarker")]
    next_key: Option<String>,
    #[serde(rename = "NextVersionIdMarker")]
    next_version: Option<String>,
    #[serde(rename = "$value", default)]
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
enum Row {
    Version(ListedVersion),
    DeleteMarker(ListedVersion),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct ListedVersion {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "VersionId")]
    id: Option<String>,
    #[serde(rename = "Size")]
    size: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct LockAnswer {
    #[serde(rename = "ObjectLockEnabled")]
    enabled: Option<String>,
    #[serde(rename = "Rule")]
    rule: Option<LockRule>,
}

#[derive(Debug, Deserialize)]
struct LockRule {
    #[serde(rename = "DefaultRetention")]
    retention: LockRetention,
}

#[derive(Debug, Deserialize)]
struct LockRetention {
    #[serde(rename = "Mode")]
    mode: String,
    #[serde(rename = "Days")]
    days: Option<u32>,
    #[serde(rename = "Years")]
    years: Option<u32>,
}

impl Bucket {
    /// The bucket at a URL. `roots` are the certificates that its server is held against.
    ///
    /// # Errors
    /// The URL and the credentials make no client.
    pub fn open(
        url: BucketUrl,
        credentials: &Credentials,
        roots: Vec<ureq::tls::Certificate<'static>>,
    ) -> io::Result<Bucket> {
        let roots = ureq::tls::RootCerts::Specific(std::sync::Arc::new(roots));
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(url.timeout))
            .tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build())
            .build()
            .into();
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&url.bucket)
            .with_region(&url.region)
            .with_access_key_id(&credentials.id)
            .with_secret_access_key(credentials.secret.as_str())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // A bucket that locks by itself takes nothing without one, and AWS keeps it with the object.
            .with_checksum_algorithm(Checksum::SHA256)
            // Who calls decides what is tried again: the same bytes only, and only after a look.
            .with_retry(RetryConfig { max_retries: 0, retry_timeout: url.timeout, ..RetryConfig::default() })
            .with_http_connector(Http(agent.clone()));
        if let Some(endpoint) = &url.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(token) = &credentials.token {
            builder = builder.with_token(token.as_str());
        }
        let s3 = builder.build().map_err(other)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_time()
            .build()?;
        Ok(Bucket { s3, url, agent, runtime })
    }

    /// Makes the bucket; one that is there stays as it is.
    ///
    /// # Errors
    /// The store refuses.
    pub fn make(&self) -> io::Result<()> {
        match self.signed(Method::PUT, "", &[], &[], &Bytes::new())? {
            (200 | 409, _) => Ok(()),
            (status, _) => Err(other(format!("the store answered with {status} when the bucket was made"))),
        }
    }

    /// Makes an object where there is none.
    ///
    /// # Errors
    /// Something stands there, or it is not known whether it was made.
    pub fn create(&self, name: &str, bytes: &Bytes) -> Result<Option<String>, NotMade> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = Path::from(self.url.key(name));
        match self.runtime.block_on(self.s3.put_opts(&path, bytes.clone().into(), options)) {
            Ok(made) => Ok(made.version.filter(|id| id != "null")),
            Err(Error::AlreadyExists { .. }) => Err(NotMade::Taken),
            Err(error) => Err(NotMade::Unclear(failed(&error))),
        }
    }

    /// The same, locked in compliance mode until a time (RFC 3339).
    ///
    /// # Errors
    /// As [`Bucket::create`].
    pub fn create_locked(&self, name: &str, bytes: &Bytes, until: &str) -> Result<(), NotMade> {
        let headers = [
            ("if-none-match", "*".to_owned()),
            ("x-amz-checksum-sha256", base64(&sha256(bytes).0)),
            ("x-amz-object-lock-mode", "COMPLIANCE".to_owned()),
            ("x-amz-object-lock-retain-until-date", until.to_owned()),
        ];
        match self.signed(Method::PUT, name, &[], &headers, bytes).map_err(NotMade::Unclear)? {
            (200, _) => Ok(()),
            (412, _) => Err(NotMade::Taken),
            (status, _) => Err(NotMade::Unclear(other(format!("the store answered with {status}")))),
        }
    }

    /// Bytes of an object, or of a part of it; none where there is no such object.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn get(&self, name: &str, version: Option<&str>, range: Option<Range<u64>>) -> io::Result<Option<Bytes>> {
        let options = GetOptions {
            version: version.map(str::to_owned),
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let path = Path::from(self.url.key(name));
        again(|| {
            let read = async { self.s3.get_opts(&path, options.clone()).await?.bytes().await };
            match self.runtime.block_on(read) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(failed(&error)),
            }
        })
    }

    /// Bytes of an object and the tag of that version; none where there is no such object.
    ///
    /// # Errors
    /// The store does not answer, or tells no tags.
    pub fn get_tagged(&self, name: &str) -> io::Result<Option<(Bytes, String)>> {
        let path = Path::from(self.url.key(name));
        again(|| {
            let read = async {
                let found = self.s3.get_opts(&path, GetOptions::default()).await?;
                let tag = found.meta.e_tag.clone();
                Ok((found.bytes().await?, tag))
            };
            match self.runtime.block_on(read) {
                Ok((bytes, Some(tag))) => Ok(Some((bytes, tag))),
                Ok((_, None)) => Err(other("the store tells no tags of objects")),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(failed(&error)),
            }
        })
    }

    /// Writes over the version of an object that has the tag `before`, or makes it where there is none; gives the new tag.
    ///
    /// # Errors
    /// Another version stands there, or it is not known whether it was written.
    pub fn swap(&self, name: &str, bytes: &Bytes, before: Option<&str>) -> Result<String, NotMade> {
        let mode = match before {
            Some(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.to_owned()), version: None }),
            None => PutMode::Create,
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        let path = Path::from(self.url.key(name));
        match self.runtime.block_on(self.s3.put_opts(&path, bytes.clone().into(), options)) {
            Ok(made) => made.e_tag.ok_or_else(|| NotMade::Unclear(other("the store tells no tags of objects"))),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Err(NotMade::Taken),
            Err(error) => Err(NotMade::Unclear(failed(&error))),
        }
    }

    /// Removes an object that nothing locks: what a probe left.
    ///
    /// # Errors
    /// The store refuses.
    pub fn delete(&self, name: &str) -> io::Result<()> {
        // One by one: `object_store` asks for several at a time, with a body.
        again(|| match self.signed(Method::DELETE, name, &[], &[], &Bytes::new())? {
            (200 | 204 | 404, _) => Ok(()),
            (403, _) => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the store refuses these credentials")),
            (status, _) => Err(other(format!("the store answered with {status}"))),
        })
    }

    /// All versions and delete markers of the objects whose names begin so; of each object the newest first.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn versions(&self, begin: &str) -> io::Result<Vec<Version>> {
        let prefix = self.url.key(begin);
        let before = self.url.key("").len();
        let (mut found, mut markers) = (Vec::new(), Vec::new());
        loop {
            let mut query = vec![("versions", String::new()), ("prefix", prefix.clone()), ("max-keys", "1000".into())];
            query.append(&mut markers);
            let (status, body) = again(|| self.asked(&query))?;
            if status != 200 {
                return Err(other(format!("the store answered with {status} when versions were listed")));
            }
            let text = std::str::from_utf8(&body).map_err(other)?;
            let listed: Listed = quick_xml::de::from_str(text).map_err(|_| other("a list of versions that is none"))?;
            for row in listed.rows {
                let (version, is_marker) = match row {
                    Row::Version(version) => (version, false),
                    Row::DeleteMarker(marker) => (marker, true),
                    Row::Other => continue,
                };
                let Some(name) = version.key.get(before..).filter(|_| version.key.starts_with(&prefix)) else {
                    return Err(other("a list of versions of other objects than were asked for"));
                };
                if found.len() >= VERSIONS_MAX {
                    return Err(other(format!(
                        "more than {VERSIONS_MAX} versions stand below {begin}: nothing of ours makes so many"
                    )));
                }
                fold(
                    &mut found,
                    Version {
                        name: name.to_owned(),
                        id: version.id,
                        length: if is_marker { None } else { Some(version.size.unwrap_or_default()) },
                    },
                );
            }
            match (listed.truncated, listed.next_key) {
                (true, Some(key)) => {
                    markers.push(("key-marker", key));
                    markers.extend(listed.next_version.map(|id| ("version-id-marker", id)));
                }
                (true, None) => return Err(other("a list of versions that does not say where it goes on")),
                (false, _) => return Ok(found),
            }
        }
    }

    /// How the bucket locks objects.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn locking(&self) -> io::Result<Locking> {
        let (status, body) = again(|| self.asked(&[("object-lock", String::new())]))?;
        if status == 404 {
            return Ok(Locking::None);
        }
        let text = std::str::from_utf8(&body).map_err(other)?;
        let answer: Option<LockAnswer> = (status == 200).then(|| quick_xml::de::from_str(text).ok()).flatten();
        let answer = answer.ok_or_else(|| other(format!("the store answered with {status} about its locks")))?;
        if answer.enabled.as_deref() != Some("Enabled") {
            return Ok(Locking::None);
        }
        let Some(LockRule { retention }) = answer.rule else { return Ok(Locking::OnRequest) };
        let days = retention.days.or(retention.years.map(|years| years.saturating_mul(365))).unwrap_or_default();
        match retention.mode.as_str() {
            "COMPLIANCE" => Ok(Locking::Compliance(days)),
            "GOVERNANCE" => Ok(Locking::Governance(days)),
            _ => Err(other("a lock of a mode that is not known")),
        }
    }

    /// What may be asked again is, also where the store is busy or has failed.
    fn asked(&self, query: &[(&str, String)]) -> io::Result<(u16, Vec<u8>)> {
        let (status, body) = self.signed(Method::GET, "", query, &[], &Bytes::new())?;
        match status {
            429 | 500.. => Err(other(format!("the store answered with {status}"))),
            _ => Ok((status, body)),
        }
    }

    /// A request of our own; the status and the body of its answer.
    fn signed(
        &self,
        method: Method,
        name: &str,
        query: &[(&str, String)],
        headers: &[(&'static str, String)],
        body: &Bytes,
    ) -> io::Result<(u16, Vec<u8>)> {
        let path = if name.is_empty() { Path::default() } else { Path::from(self.url.key(name)) };
        let mut options = SignedUrlOptions::default();
        options = options.with_query(query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut signed = http::HeaderMap::new();
        for (name, value) in headers {
            signed.insert(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(other)?);
        }
        options.signed_headers = signed.clone();
        let signing = self.s3.signed_url_opts(method.clone(), &path, SIGNED_FOR, &options);
        let url = self.runtime.block_on(signing).map_err(other)?;
        let mut request = http::Request::builder().method(method).uri(url.as_str());
        if let Some(held) = request.headers_mut() {
            held.extend(signed);
        }
        let request = request.body(body.as_ref()).map_err(other)?;
        // An error of the client may repeat the URL, which is signed.
        let lost = |_| io::Error::other("the store does not answer");
        let (parts, mut body) = run(&self.agent, request).map_err(lost)?.into_parts();
        Ok((parts.status.as_u16(), body.with_config().limit(LIST_BYTES_MAX).read_to_vec().map_err(lost)?))
    }
}
