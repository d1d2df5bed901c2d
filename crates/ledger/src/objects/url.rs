//! Where a bucket is, as one URL: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&timeout_s=SECONDS`.

use std::time::Duration;

/// Seconds that one request may take, where the URL says nothing.
const TIMEOUT_S: u64 = 10;
/// Seconds that one request may take, at most.
const TIMEOUT_S_MAX: u64 = 300;

/// A bucket and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    /// Name of the bucket.
    pub bucket: String,
    /// What every key begins with, without slashes around it; empty for none.
    pub prefix: String,
    /// Address of the store; that of AWS where there is none.
    pub endpoint: Option<String>,
    /// Region that requests are signed for.
    pub region: String,
    /// For one request.
    pub timeout: Duration,
}

/// Letters, digits and a few marks: what needs no escape in a path and can climb nowhere.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

impl BucketUrl {
    /// Reads the URL; what is wrong, as a sentence.
    ///
    /// # Errors
    /// It is no such URL, or a part of it is out of its bounds.
    pub fn parse(text: &str) -> Result<BucketUrl, String> {
        let rest = text.strip_prefix("s3://").ok_or("a bucket is named as s3://BUCKET/PREFIX?endpoint=URL")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if !(3..=63).contains(&bucket.len()) || !is_plain(bucket) {
            return Err("the name of a bucket has 3 to 63 letters, digits, dots or dashes".into());
        }
        let prefix = prefix.trim_end_matches('/');
        let parts_fit = prefix.split('/').all(|part| !part.is_empty() && is_plain(part) && !part.starts_with('.'));
        if !prefix.is_empty() && (prefix.len() > 256 || !parts_fit) {
            return Err("a prefix is made of letters, digits and -_. between single slashes, 256 at most".into());
        }
        let mut url = BucketUrl {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            region: "us-east-1".into(),
            timeout: Duration::from_secs(TIMEOUT_S),
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "endpoint" if value.starts_with("http://") || value.starts_with("https://") => {
                    url.endpoint = Some(value.trim_end_matches('/').to_owned());
                }
                "endpoint" => return Err("endpoint must begin with http:// or https://".into()),
                "region" if !value.is_empty() && is_plain(&value) => url.region = value.into_owned(),
                "region" => return Err("region must be letters, digits and dashes".into()),
                "timeout_s" => {
                    let seconds = value.parse().ok().filter(|seconds| (1..=TIMEOUT_S_MAX).contains(seconds));
                    let seconds = seconds.ok_or(format!("timeout_s must be 1 to {TIMEOUT_S_MAX}"))?;
                    url.timeout = Duration::from_secs(seconds);
                }
                // A name may be a secret that was put in the wrong place: it is not repeated.
                _ => return Err("only endpoint, region and timeout_s stand in the URL of a bucket".into()),
            }
        }
        Ok(url)
    }

    /// The key of a name below the prefix.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_all_and_nothing_else_fits() {
        let url =
            BucketUrl::parse("s3://audit/shop/one?endpoint=http%3A%2F%2F127.0.0.1:8333/&region=af-south-1&timeout_s=3");
        let url = url.expect("a URL");
        assert_eq!((url.bucket.as_str(), url.prefix.as_str()), ("audit", "shop/one"));
        assert_eq!(url.endpoint.as_deref(), Some("http://127.0.0.1:8333"));
        assert_eq!((url.region.as_str(), url.timeout), ("af-south-1", Duration::from_secs(3)));
        assert_eq!(url.key("trail"), "shop/one/trail");
        assert_eq!(BucketUrl::parse("s3://audit").expect("a URL").key("trail"), "trail");
        for (text, why) in [
            ("http://audit", "s3://"),
            ("s3://a", "3 to 63"),
            ("s3://audit/../other", "prefix"),
            ("s3://audit/a//b", "prefix"),
            ("s3://audit?endpoint=ftp://x", "endpoint"),
            ("s3://audit?timeout_s=0", "1 to 300"),
            ("s3://audit?secret=hunter2", "only endpoint"),
        ] {
            let said = BucketUrl::parse(text).expect_err(text);
            assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
        }
    }
}
