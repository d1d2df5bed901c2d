//! Rules that start from a prefix or keyword. Shapes are those the issuers publish; the table is ours and makes most of
//! this file.

use std::ops::Range;

use super::checks::{mix, password_like, random};

/// A check: the text, where the prefix starts and ends; the answer is what to cut.
pub(super) type Check = fn(&[u8], usize, usize) -> Option<Range<usize>>;

/// One prefix of one rule.
#[derive(Debug)]
pub(super) struct Prefix {
    pub(super) text: &'static str,
    pub(super) rule: &'static str,
    /// A keyword of ordinary language, in any case: not looked for in ids.
    pub(super) needs_context: bool,
    pub(super) check: Check,
}

const fn token(text: &'static str, rule: &'static str, check: Check) -> Prefix {
    Prefix { text, rule, needs_context: false, check }
}

const fn keyword(text: &'static str, rule: &'static str, check: Check) -> Prefix {
    Prefix { text, rule, needs_context: true, check }
}

pub(super) fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
}

pub(super) fn run(text: &[u8], from: usize, accept: impl Fn(u8) -> bool) -> usize {
    text[from..].iter().take_while(|byte| accept(**byte)).count()
}

/// The byte before the prefix is no letter or digit, so that the prefix begins a word.
fn begins(text: &[u8], start: usize) -> bool {
    start == 0 || !text[start - 1].is_ascii_alphanumeric()
}

/// Prefix and at least MIN characters of a token, with some digits or two cases among them.
fn tail<const MIN: usize>(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, word);
    let value = &text[end..end + length];
    let mix = mix(value);
    let sorts = usize::from(mix.lower > 0) + usize::from(mix.upper > 0) + usize::from(mix.digits > 0);
    (begins(text, start) && length >= MIN && sorts >= 2 && mix.distinct >= 6).then_some(start..end + length)
}

/// As [`tail`], with dots, slashes and padding.
fn long_tail<const MIN: usize>(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, |b| base64(b) || b == b'.' || b == b':');
    let length = trim_end(&text[end..end + length]);
    (begins(text, start) && length >= MIN && mix(&text[end..end + length]).distinct >= 6).then_some(start..end + length)
}

fn trim_end(value: &[u8]) -> usize {
    value.iter().rposition(|byte| !matches!(byte, b'.' | b':' | b',')).map_or(0, |last| last + 1)
}

fn hex_tail<const LENGTH: usize>(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, |b| b.is_ascii_hexdigit());
    (begins(text, start) && length == LENGTH && mix(&text[end..end + length]).distinct >= 6)
        .then_some(start..end + length)
}

/// `AKIA` and 16 capitals or digits.
fn access_key_id(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, |b| b.is_ascii_uppercase() || b.is_ascii_digit());
    (begins(text, start) && length == 16).then_some(start..end + length)
}

/// Three dotted base64url parts, the first a JSON header.
fn jwt(text: &[u8], start: usize, _end: usize) -> Option<Range<usize>> {
    let length = run(text, start, |b| word(b) || b == b'.');
    let length = trim_end(&text[start..start + length]);
    let value = &text[start..start + length];
    let dots = value.iter().filter(|byte| **byte == b'.').count();
    (begins(text, start) && dots >= 2 && length >= 40).then_some(start..start + length)
}

/// From the opening line to the closing one, or to the end of the text.
fn pem(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let head = &text[end..text.len().min(end + 64)];
    if !head.windows(11).any(|window| window == b"PRIVATE KEY") {
        return None;
    }
    let closing = b"-----END ";
    let rest = &text[end..];
    let close = rest.windows(closing.len()).position(|window| window == closing);
    let stop = close.map_or(text.len(), |at| {
        let line = run(text, end + at + closing.len(), |b| b != b'-');
        let dashes = run(text, end + at + closing.len() + line, |b| b == b'-');
        end + at + closing.len() + line + dashes
    });
    Some(start..stop)
}

/// `scheme://user:password@host`: the password is cut.
fn url_password(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    if start == 0 || !text[start - 1].is_ascii_alphanumeric() {
        return None;
    }
    let length = run(text, end, |b| !b.is_ascii_whitespace() && !matches!(b, b'/' | b'"' | b'\'' | b'<' | b'>'));
    let authority = &text[end..end + length];
    let at = authority.iter().rposition(|byte| *byte == b'@')?;
    let colon = authority[..at].iter().position(|byte| *byte == b':')?;
    (at > colon + 1).then_some(end + colon + 1..end + at)
}

/// `?token=...` and its like in a URL or a form: the value is cut.
fn parameter(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    if start == 0 || !matches!(text[start - 1], b'?' | b'&' | b';' | b'#') {
        return None;
    }
    let length = run(text, end, |b| base64(b) || matches!(b, b'.' | b'%' | b'~'));
    let length = trim_end(&text[end..end + length]);
    (length >= 8).then_some(end..end + length)
}

/// A path segment such as `/reset/` or `/unsubscribe/` with a long random part behind it.
fn link_token(text: &[u8], _start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, word);
    let value = &text[end..end + length];
    let mix = mix(value);
    (length >= 16 && mix.digits > 0 && mix.lower + mix.upper > 0 && mix.distinct >= 8).then_some(end..end + length)
}

/// `Authorization: Bearer x`, `Bearer x`, `Basic x`.
fn authorization(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, |b| base64(b) || matches!(b, b'.' | b'~'));
    let length = trim_end(&text[end..end + length]);
    let value = &text[end..end + length];
    let mix = mix(value);
    let sorts = usize::from(mix.lower > 0) + usize::from(mix.upper > 0) + usize::from(mix.digits + mix.other > 0);
    (begins(text, start) && length >= 12 && sorts >= 2 && mix.distinct >= 6 && mix.changes >= 3)
        .then_some(end..end + length)
}

/// `AUTH PLAIN <base64>`
fn smtp_auth(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, base64);
    (begins(text, start) && length >= 8).then_some(end..end + length)
}

/// `keyword`, then `:`, `=`, "is" or the like, then a value that is no plain word.
fn assigned(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let value = value_after(text, end)?;
    let word_before = start > 0 && text[start - 1].is_ascii_alphabetic();
    (!word_before && password_like(&text[value.clone()])).then_some(value)
}

/// As [`assigned`], for keywords such as "token" that stand before ordinary ids too: the value must look random,
/// or be long hexadecimal.
fn assigned_random(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let value = value_after(text, end)?;
    let bytes = &text[value.clone()];
    let hex = bytes.len() >= 24 && bytes.iter().all(u8::is_ascii_hexdigit) && mix(bytes).distinct >= 6;
    let word_before = start > 0 && text[start - 1].is_ascii_alphabetic();
    let mixed = {
        let m = mix(bytes);
        m.digits > 1 && m.lower + m.upper > 3 && m.distinct >= 8 && m.changes >= 4
    };
    (!word_before && bytes.len() >= 12 && (hex || mixed || random(bytes))).then_some(value)
}

/// Where the value after a keyword stands: behind at most one separator, optional quotes not included.
fn value_after(text: &[u8], end: usize) -> Option<Range<usize>> {
    // "password_hash", "passwords" and "password-reset" are other words.
    let mut at = end;
    let spaces = |at: usize| at + run(text, at, |b| b == b' ' || b == b'\t');
    at += run(text, at, |b| matches!(b, b'"' | b'\'' | b'`'));
    let after_space = spaces(at);
    let rest = &text[after_space..];
    let separators: [&[u8]; 10] =
        [b":=", b"=>", b"->", b":", b"=", b"is ", b"was ", b"lautet ", b"ist ", b"\xe2\x86\x92"];
    let separator = separators
        .iter()
        .find(|separator| rest.get(..separator.len()).is_some_and(|head| head.eq_ignore_ascii_case(separator)))?;
    if separator[0].is_ascii_alphabetic() && after_space == at {
        return None;
    }
    at = spaces(after_space + separator.len());
    at += run(text, at, |b| matches!(b, b'"' | b'\'' | b'`' | b'[' | b'('));
    let length = run(text, at, |b| !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>' | b'|'));
    let value = &text[at..at + length];
    let kept = value
        .iter()
        .rposition(|byte| !matches!(byte, b'.' | b',' | b';' | b')' | b']' | b':' | b'?'))
        .map_or(0, |last| last + 1);
    // A value that is a URL or an address is not what the keyword promised.
    let value = &value[..kept];
    if value.windows(3).any(|window| window == b"://") || kept == 0 {
        return None;
    }
    Some(at..at + kept)
}

/// A number of 4 to 8 digits right after the keyword.
fn one_time_code(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    code::<4, 8>(text, start, end)
}

/// Three or four digits right after the keyword.
fn card_check(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    code::<3, 4>(text, start, end)
}

fn code<const MIN: usize, const MAX: usize>(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    if !begins(text, start) || text.get(end).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let mut at = end + run(text, end, |b| matches!(b, b' ' | b':' | b'=' | b'#' | b'-' | b'"' | b'\''));
    for filler in [&b"is "[..], b"code ", b"code: ", b"code is ", b"number ", b"nr ", b"no ", b"kode "] {
        if text[at..].get(..filler.len()).is_some_and(|head| head.eq_ignore_ascii_case(filler)) {
            at += filler.len();
        }
    }
    at += run(text, at, |b| matches!(b, b' ' | b':' | b'=' | b'"' | b'\''));
    let length = run(text, at, |b| b.is_ascii_digit());
    let follows = text.get(at + length).copied().unwrap_or(b' ');
    let ends = !follows.is_ascii_alphanumeric() && !matches!(follows, b'-' | b'/' | b'%');
    (length >= MIN && length <= MAX && ends).then_some(at..at + length)
}

/// 7 to 16 digits, grouped or not, within a few words after a keyword for bank accounts.
fn bank_account(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    if !begins(text, start) || text.get(end).is_some_and(u8::is_ascii_alphabetic) {
        return None;
    }
    let window = text.len().min(end + 48);
    let mut at = end;
    while at < window && !text[at].is_ascii_digit() {
        if matches!(text[at], b'.' | b';' | b'?' | b'|') && text.get(at + 1) == Some(&b' ') && at > end + 3 {
            return None;
        }
        at += 1;
    }
    if at > end && text[at - 1].is_ascii_alphanumeric() || at > 0 && matches!(text[at - 1], b'#' | b'R' | b'x' | b'*') {
        return None;
    }
    let mut stop = at;
    let mut digits = 0;
    while stop < text.len()
        && (text[stop].is_ascii_digit()
            || matches!(text[stop], b' ' | b'-') && text.get(stop + 1).is_some_and(u8::is_ascii_digit))
    {
        digits += usize::from(text[stop].is_ascii_digit());
        stop += 1;
    }
    let ends = !text.get(stop).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b':'));
    let is_date = digits == 8 && text[at..stop].contains(&b'-');
    ((7..=16).contains(&digits) && ends && !is_date).then_some(at..stop)
}

/// `$2b$10$...`, `$argon2id$...`, `$6$salt$...`
fn password_hash(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, |b| {
        b.is_ascii_alphanumeric() || matches!(b, b'$' | b'.' | b'/' | b'+' | b'=' | b',' | b'-' | b'_')
    });
    let length = trim_end(&text[end..end + length]);
    (length >= 20).then_some(start..end + length)
}

/// Digits, colon, 35 token characters: the prefix is the colon's neighbourhood of a bot token.
fn bot_token(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let digits = text[..start].iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let length = run(text, end - 2, word);
    (8..=10).contains(&digits).then_some(())?;
    (length >= 35).then_some(start - digits..end - 2 + length)
}

pub(super) const PREFIXES: &[Prefix] = &[
    token("ghp_", "github-token", tail::<30>),
    token("gho_", "github-token", tail::<30>),
    token("ghu_", "github-token", tail::<30>),
    token("ghs_", "github-token", tail::<30>),
    token("ghr_", "github-token", tail::<30>),
    token("github_pat_", "github-token", tail::<30>),
    token("glpat-", "gitlab-token", tail::<16>),
    token("gldt-", "gitlab-token", tail::<16>),
    token("glptt-", "gitlab-token", tail::<16>),
    token("glrt-", "gitlab-token", tail::<16>),
    token("AKIA", "aws-access-key-id", access_key_id),
    token("ASIA", "aws-access-key-id", access_key_id),
    token("xoxb-", "slack-token", tail::<20>),
    token("xoxp-", "slack-token", tail::<20>),
    token("xoxa-", "slack-token", tail::<20>),
    token("xoxs-", "slack-token", tail::<20>),
    token("xoxr-", "slack-token", tail::<20>),
    token("xapp-", "slack-token", tail::<20>),
    token("hooks.slack.com/services/", "slack-webhook", long_tail::<20>),
    token("sk_live_", "stripe-key", tail::<16>),
    token("sk_test_", "stripe-key", tail::<16>),
    token("rk_live_", "stripe-key", tail::<16>),
    token("rk_test_", "stripe-key", tail::<16>),
    token("whsec_", "webhook-secret", long_tail::<16>),
    token("AIza", "google-api-key", tail::<30>),
    token("ya29.", "google-oauth-token", long_tail::<20>),
    token("GOCSPX-", "google-oauth-secret", tail::<20>),
    token("1//0", "google-refresh-token", tail::<30>),
    token("SG.", "sendgrid-key", long_tail::<40>),
    token("key-", "mailgun-key", hex_tail::<32>),
    token("re_", "resend-key", tail::<24>),
    token("xkeysib-", "brevo-key", tail::<40>),
    token("pm_live_", "provider-key", tail::<16>),
    token("npm_", "npm-token", tail::<30>),
    token("pypi-", "pypi-token", tail::<50>),
    token("crates-io_", "registry-token", tail::<24>),
    token("cio", "registry-token", tail::<32>),
    token("eyJ", "json-web-token", jwt),
    token("-----BEGIN ", "private-key", pem),
    token("AGE-SECRET-KEY-1", "age-key", tail::<40>),
    token("://", "url-password", url_password),
    token("dop_v1_", "digitalocean-token", tail::<40>),
    token("shpat_", "shopify-token", tail::<24>),
    token("shpss_", "shopify-token", tail::<24>),
    token("shpca_", "shopify-token", tail::<24>),
    token("shppa_", "shopify-token", tail::<24>),
    token("sq0atp-", "square-token", tail::<20>),
    token("sq0csp-", "square-token", tail::<40>),
    token("EAAA", "access-token", tail::<50>),
    token("hf_", "model-hub-token", tail::<30>),
    token("sk-ant-", "api-key", tail::<30>),
    token("sk-proj-", "api-key", tail::<30>),
    token("sk-", "api-key", tail::<32>),
    token("dapi", "databricks-token", hex_tail::<32>),
    token("hvs.", "vault-token", long_tail::<20>),
    token("hvb.", "vault-token", long_tail::<20>),
    token("s.", "vault-token", vault_legacy),
    token("dp.pt.", "doppler-token", long_tail::<30>),
    token("lin_api_", "linear-key", tail::<30>),
    token("PMAK-", "postman-key", tail::<40>),
    token("NRAK-", "newrelic-key", tail::<24>),
    token("glsa_", "grafana-token", tail::<30>),
    token("sntrys_", "sentry-token", long_tail::<30>),
    token("figd_", "figma-token", tail::<30>),
    token("rubygems_", "registry-token", tail::<40>),
    token("tfp_", "provider-key", tail::<30>),
    token("pat-na1-", "hubspot-token", tail::<30>),
    token("atlasv1.", "terraform-token", long_tail::<50>),
    token("ATATT3", "atlassian-token", long_tail::<50>),
    token(".atlasv1.", "terraform-token", long_tail_inside::<50>),
    token("SK", "twilio-key", hex_tail::<32>),
    token("AC", "twilio-account", hex_tail::<32>),
    token("live_", "provider-key", tail::<28>),
    token("test_", "provider-key", tail::<28>),
    token("flwsec", "payment-key", long_tail::<20>),
    token("FLWSECK", "payment-key", long_tail::<20>),
    token("rzp_live_", "payment-key", tail::<12>),
    token("access_token$production$", "payment-key", long_tail::<20>),
    token(":AA", "bot-token", bot_token),
    token("$2a$", "password-hash", password_hash),
    token("$2b$", "password-hash", password_hash),
    token("$2y$", "password-hash", password_hash),
    token("$argon2", "password-hash", password_hash),
    token("$6$", "password-hash", password_hash),
    token("$5$", "password-hash", password_hash),
    token("$y$", "password-hash", password_hash),
    token("$apr1$", "password-hash", password_hash),
    token("$scrypt$", "password-hash", password_hash),
    token("pbkdf2_sha256$", "password-hash", password_hash),
    token("{SSHA}", "password-hash", password_hash),
    keyword("AccountKey=", "storage-key", authorization),
    keyword("SharedAccessKey=", "storage-key", authorization),
    keyword("SharedAccessSignature=", "storage-key", authorization),
    keyword("Bearer ", "authorization", authorization),
    keyword("Basic ", "authorization", authorization),
    keyword("Digest ", "authorization", authorization),
    keyword("AUTH PLAIN ", "smtp-credentials", smtp_auth),
    keyword("AUTH LOGIN ", "smtp-credentials", smtp_auth),
    keyword("AUTH CRAM-MD5 ", "smtp-credentials", smtp_auth),
    token("token=", "token-in-url", parameter),
    token("access_token=", "token-in-url", parameter),
    token("id_token=", "token-in-url", parameter),
    token("refresh_token=", "token-in-url", parameter),
    token("sig=", "token-in-url", parameter),
    token("signature=", "token-in-url", parameter),
    token("code=", "token-in-url", parameter),
    token("key=", "token-in-url", parameter),
    token("api_key=", "token-in-url", parameter),
    token("apikey=", "token-in-url", parameter),
    token("auth=", "token-in-url", parameter),
    token("secret=", "token-in-url", parameter),
    token("password=", "token-in-url", parameter),
    token("pwd=", "token-in-url", parameter),
    token("session=", "token-in-url", parameter),
    token("sid=", "token-in-url", parameter),
    token("t=", "token-in-url", long_parameter),
    token("hash=", "token-in-url", long_parameter),
    token("X-Amz-Signature=", "token-in-url", parameter),
    token("X-Goog-Signature=", "token-in-url", parameter),
    token("/reset/", "token-in-url", link_token),
    token("/verify/", "token-in-url", link_token),
    token("/confirm/", "token-in-url", link_token),
    token("/activate/", "token-in-url", link_token),
    token("/approve/", "token-in-url", link_token),
    token("/magic/", "token-in-url", link_token),
    token("/login/", "token-in-url", link_token),
    token("/invite/", "token-in-url", link_token),
    token("/unsubscribe/", "token-in-url", link_token),
    token("/action/", "token-in-url", link_token),
    token("/t/", "token-in-url", link_token),
    token("/auth/", "token-in-url", link_token),
    keyword("password", "password", assigned),
    keyword("passwd", "password", assigned),
    keyword("pwd", "password", assigned),
    keyword("passphrase", "password", assigned),
    keyword("passcode", "password", assigned),
    keyword("pass", "password", assigned),
    keyword("passwort", "password", assigned),
    keyword("kennwort", "password", assigned),
    keyword("wagwoord", "password", assigned),
    keyword("senha", "password", assigned),
    keyword("mot de passe", "password", assigned),
    keyword("iphasiwedi", "password", assigned),
    keyword("wifi key", "password", assigned),
    keyword("pw", "password", assigned),
    keyword("secret", "secret", assigned_random),
    keyword("client_secret", "secret", assigned_random),
    keyword("api key", "secret", assigned_random),
    keyword("api_key", "secret", assigned_random),
    keyword("apikey", "secret", assigned_random),
    keyword("api-key", "secret", assigned_random),
    keyword("access key", "secret", assigned_random),
    keyword("access_key", "secret", assigned_random),
    keyword("secret_key", "secret", assigned_random),
    keyword("private key", "secret", assigned_random),
    keyword("private_key", "secret", assigned_random),
    keyword("secretkey", "secret", assigned_random),
    keyword("accesskey", "secret", assigned_random),
    keyword("secret_access_key", "secret", assigned_random),
    keyword("secretaccesskey", "secret", assigned_random),
    keyword("encryption key", "secret", assigned_random),
    keyword("auth_token", "secret", assigned_random),
    keyword("authtoken", "secret", assigned_random),
    keyword("token", "secret", assigned_random),
    keyword("session", "secret", assigned_random),
    keyword("sessionid", "secret", assigned_random),
    keyword("session_id", "secret", assigned_random),
    keyword("cookie", "secret", assigned_random),
    keyword("phpsessid", "secret", assigned_random),
    keyword("jsessionid", "secret", assigned_random),
    keyword("csrftoken", "secret", assigned_random),
    keyword("x-api-key", "secret", assigned_random),
    keyword("credential", "secret", assigned_random),
    keyword("credentials", "secret", assigned_random),
    keyword("seed", "secret", assigned_random),
    keyword("otp", "one-time-code", one_time_code),
    keyword("one-time pin", "one-time-code", one_time_code),
    keyword("one time pin", "one-time-code", one_time_code),
    keyword("one-time password", "one-time-code", one_time_code),
    keyword("verification code", "one-time-code", one_time_code),
    keyword("security code", "one-time-code", one_time_code),
    keyword("login code", "one-time-code", one_time_code),
    keyword("pin", "one-time-code", one_time_code),
    keyword("2fa", "one-time-code", one_time_code),
    keyword("totp", "one-time-code", one_time_code),
    keyword("cvv", "card-check", card_check),
    keyword("cvc", "card-check", card_check),
    keyword("cvv2", "card-check", card_check),
    keyword("cvc2", "card-check", card_check),
    keyword("account number", "bank-account", bank_account),
    keyword("account no", "bank-account", bank_account),
    keyword("acc no", "bank-account", bank_account),
    keyword("acc nr", "bank-account", bank_account),
    keyword("acc number", "bank-account", bank_account),
    keyword("acct", "bank-account", bank_account),
    keyword("a/c", "bank-account", bank_account),
    keyword("bank account", "bank-account", bank_account),
    keyword("bank acc", "bank-account", bank_account),
    keyword("bank details", "bank-account", bank_account),
    keyword("banking details", "bank-account", bank_account),
    keyword("savings account", "bank-account", bank_account),
    keyword("cheque account", "bank-account", bank_account),
    keyword("current account", "bank-account", bank_account),
    keyword("rekeningnommer", "bank-account", bank_account),
    keyword("rekening", "bank-account", bank_account),
    keyword("kontonummer", "bank-account", bank_account),
    keyword("branch code", "bank-account", bank_account),
    keyword("acc:", "bank-account", bank_account),
    keyword("bankrekening", "bank-account", bank_account),
];

fn vault_legacy(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let length = run(text, end, |b| b.is_ascii_alphanumeric());
    (begins(text, start) && (24..=26).contains(&length) && random(&text[end..end + length]))
        .then_some(start..end + length)
}

fn long_parameter(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    parameter(text, start, end).filter(|range| range.len() >= 20)
}

fn long_tail_inside<const MIN: usize>(text: &[u8], start: usize, end: usize) -> Option<Range<usize>> {
    let before = text[..start].iter().rev().take_while(|b| word(**b)).count();
    let length = run(text, end, base64);
    (before >= 10 && length >= MIN).then_some(start - before..end + length)
}
