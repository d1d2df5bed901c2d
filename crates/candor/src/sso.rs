//! Single sign-on by OpenID Connect: discovery, code with PKCE, the provider's keys, its word when somebody signs out.
//!
//! What is asked for goes to the issuer's host alone, and to hosts that the configuration names: a discovery document, or
//! whoever changed it, sends this server nowhere else. Redirects are not followed, answers are small and soon.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use access::role::Role;
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::clock::{Clock, SystemClock};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreGenderClaim, CoreJwsSigningAlgorithm, CoreProviderMetadata,
};
use openidconnect::url::Url;
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl, JsonWebKey as _, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _,
    UserInfoClaims,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ureq::tls::{RootCerts, TlsConfig};
use web::people::{Begun, Identity, LoggedOut, NotLetIn, Provider};

use crate::config::{Config, Oidc};

/// How long the provider is waited for, all told.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer, at most.
const ANSWER_BYTES_MAX: u64 = 512 << 10;
/// What a provider says of itself is asked again after this.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// After this it is asked again where a key is not known: no stranger's word makes us ask more often.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Where it did not answer, it is asked again after this.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// A logout token is of now, to this many seconds.
const LOGOUT_AGE_S: u64 = 300;
/// The event of a logout token.
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Words of `amr` (RFC 8176) by what they prove: something known, something had, somebody's body.
const FACTORS: [&[&str]; 3] = [
    &["pwd", "pin", "kba"],
    &["otp", "hwk", "swk", "sms", "tel", "pop", "sc"],
    &["fpt", "face", "iris", "retina", "vbm"],
];
/// Characters of what is taken over.
const TEXT_MAX: usize = 256;

/// Claims beside the standard ones: where roles may stand.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Claims(Map<String, Value>);

impl AdditionalClaims for Claims {}

/// A host with its port: another service of the same machine is another host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    name: String,
    port: u16,
    /// Whether it is asked encrypted: each, but this machine's own.
    https: bool,
}

impl Host {
    /// The host of an address, as it is compared; none where it names somebody at it, or is asked in clear beyond this
    /// machine.
    fn of(url: &str) -> Option<Host> {
        let url = Url::parse(url).ok()?;
        let name = url.host_str()?.to_ascii_lowercase();
        let local = matches!(name.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        let https = url.scheme() == "https";
        let plain = url.username().is_empty() && url.password().is_none();
        let fits = plain && (https || local && url.scheme() == "http");
        fits.then(|| Host { name, port: url.port_or_known_default().unwrap_or(443), https })
    }
}

/// A way to the provider that leads nowhere else.
struct Way {
    agent: ureq::Agent,
    hosts: Vec<Host>,
}

/// Why an answer is none; nothing of it is told.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the provider names a host that is not configured")]
    Elsewhere,
    #[error("the provider does not answer as it should")]
    NoAnswer,
}

impl Way {
    fn allows(&self, url: &str) -> bool {
        Host::of(url).is_some_and(|host| self.hosts.contains(&host))
    }

    fn ask(&self, request: HttpRequest) -> Result<HttpResponse, Lost> {
        if !self.allows(&request.uri().to_string()) {
            return Err(Lost::Elsewhere);
        }
        let (parts, body) = self.agent.run(request).map_err(|_| Lost::NoAnswer)?.into_parts();
        if parts.status.is_redirection() {
            return Err(Lost::Elsewhere);
        }
        let mut body = body;
        let bytes = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(|_| Lost::NoAnswer)?;
        Ok(http::Response::from_parts(parts, bytes))
    }
}

/// What the provider said of itself, and when it was asked.
#[derive(Clone)]
struct Known {
    metadata: Arc<CoreProviderMetadata>,
    at: Instant,
}

/// See the module.
struct OpenId {
    config: Oidc,
    issuer: IssuerUrl,
    secret: Option<ClientSecret>,
    back: RedirectUrl,
    way: Way,
    roles: BTreeMap<String, Vec<Role>>,
    known: Mutex<Option<Known>>,
    /// When it was last asked in vain: not again for a moment, whoever comes.
    failed: Mutex<Option<Instant>>,
}

/// Single sign-on, where it is configured.
pub fn provider(data: &Path, config: &Config) -> Result<Option<Arc<dyn Provider>>> {
    let Some(oidc) = &config.oidc else { return Ok(None) };
    let Some(url) = &config.public_url else {
        bail!("serve: oidc: set public_url too: the provider sends people back there")
    };
    let made = open_id(data, oidc, url).context("serve: oidc")?;
    Ok(Some(Arc::new(made)))
}

fn open_id(data: &Path, oidc: &Oidc, url: &str) -> Result<OpenId> {
    let Some(host) = Host::of(&oidc.issuer) else {
        bail!("issuer must be https, such as https://login.example: else tokens would cross the network in clear");
    };
    let mut hosts = vec![host];
    for named in &oidc.hosts {
        let host = Host::of(&format!("https://{named}")).filter(|_| !named.contains(['/', '@']));
        hosts.push(host.with_context(|| format!("hosts: {named:?} is no host such as keys.login.example:8443"))?);
    }
    let secret = match &oidc.client_secret_file {
        None => None,
        Some(path) => {
            let path = data.join(path);
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            Some(ClientSecret::new(text.trim().to_owned()))
        }
    };
    let roots = crate::tls::roots(data, oidc.ca_file.as_deref())?;
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build();
    let agent = ureq::Agent::config_builder()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        // People come seldom: a connection kept until then is one that the provider has closed.
        .max_idle_connections(0)
        .tls_config(tls)
        .build()
        .new_agent();
    let mut roles = BTreeMap::new();
    for (said, names) in &oidc.roles {
        let given = |name: &String| Role::parse(name).filter(|role| Role::GIVEN.contains(role));
        let list: Option<Vec<Role>> = names.iter().map(given).collect();
        let list = list.filter(|list| !list.is_empty());
        let known = Role::GIVEN.map(Role::name).join(", ");
        roles.insert(said.clone(), list.with_context(|| format!("roles.{said:?} must be a list of: {known}"))?);
    }
    if roles.is_empty() {
        bail!("set roles: without them nobody who comes has one here");
    }
    let back = format!("{}/sign-in/sso/back", url.trim_end_matches('/'));
    Ok(OpenId {
        config: oidc.clone(),
        issuer: IssuerUrl::new(oidc.issuer.clone()).context("issuer")?,
        secret,
        back: RedirectUrl::new(back).context("public_url")?,
        way: Way { agent, hosts },
        roles,
        known: Mutex::default(),
        failed: Mutex::default(),
    })
}

/// What asks a provider of whom it is known where tokens are given; the others it may name or not.
type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

impl OpenId {
    fn client(&self, metadata: &CoreProviderMetadata) -> Client {
        let (id, secret) = (ClientId::new(self.config.client_id.clone()), self.secret.clone());
        CoreClient::from_provider_metadata(metadata.clone(), id, secret).set_redirect_uri(self.back.clone())
    }

    /// What the provider says of itself, asked again when it is older than this.
    fn known(&self, most: Duration) -> Result<Known, NotLetIn> {
        let held = self.known.lock().map_err(|_| NotLetIn::Unreachable)?.clone();
        if let Some(held) = held.filter(|held| held.at.elapsed() < most) {
            return Ok(held);
        }
        if self.failed.lock().map_err(|_| NotLetIn::Unreachable)?.is_some_and(|at| at.elapsed() < FAILED_FOR) {
            return Err(NotLetIn::Unreachable);
        }
        let ask = |request| self.way.ask(request);
        let said = CoreProviderMetadata::discover(&self.issuer, &ask);
        let Ok(metadata) = said else {
            *self.failed.lock().map_err(|_| NotLetIn::Unreachable)? = Some(Instant::now());
            return Err(NotLetIn::Unreachable);
        };
        let known = Known { metadata: Arc::new(metadata), at: Instant::now() };
        *self.known.lock().map_err(|_| NotLetIn::Unreachable)? = Some(known.clone());
        Ok(known)
    }

    /// Tries with the keys that are known, and once more with fresh ones.
    fn with_keys<T>(&self, check: impl Fn(&CoreProviderMetadata) -> Option<T>) -> Result<T, NotLetIn> {
        let known = self.known(KNOWN_FOR)?;
        if let Some(held) = check(&known.metadata) {
            return Ok(held);
        }
        let fresh = self.known(ASK_AGAIN)?;
        if fresh.at == known.at {
            return Err(NotLetIn::NotTrue);
        }
        check(&fresh.metadata).ok_or(NotLetIn::NotTrue)
    }

    /// The roles that a claim gives, each once.
    fn roles_of(&self, claims: &Map<String, Value>) -> Vec<Role> {
        let name = self.config.role_claim.as_str();
        let within = || {
            let (first, rest) = name.split_once('.')?;
            claims.get(first)?.pointer(&format!("/{}", rest.replace('.', "/")))
        };
        let said = claims.get(name).or_else(within);
        let texts: Vec<&str> = match said {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let mut roles = Vec::new();
        for role in texts.into_iter().filter_map(|text| self.roles.get(text)).flatten() {
            if !roles.contains(role) {
                roles.push(*role);
            }
        }
        roles
    }
}

/// The payload of a signed word that was checked.
fn payload(token: &str) -> Option<Map<String, Value>> {
    let part = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Whether a provider says that it asked for two factors: in a word, or by two of different sorts.
fn is_second_factor(claims: &Map<String, Value>) -> bool {
    let said = claims.get("amr").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let said: Vec<&str> = said.collect();
    let sorts = FACTORS.iter().filter(|sort| said.iter().any(|word| sort.contains(word))).count();
    said.contains(&"mfa") || sorts > 1
}

fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    let text = claims.get(name)?.as_str()?.trim();
    let fits = !text.is_empty() && text.chars().count() <= TEXT_MAX && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

impl Provider for OpenId {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn begin(&self) -> Result<Begun, NotLetIn> {
        let known = self.known(KNOWN_FOR)?;
        let client = self.client(&known.metadata);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .set_pkce_challenge(challenge);
        for scope in &self.config.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = request.url();
        // People are sent where the configuration says, too.
        if !self.way.allows(url.as_str()) {
            return Err(NotLetIn::Unreachable);
        }
        Ok(Begun {
            url: url.into(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        })
    }

    fn finish(&self, code: &str, begun: &Begun) -> Result<Identity, NotLetIn> {
        let ask = |request| self.way.ask(request);
        let known = self.known(KNOWN_FOR)?;
        let token = self
            .client(&known.metadata)
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|_| NotLetIn::Unreachable)?
            .set_pkce_verifier(PkceCodeVerifier::new(begun.verifier.clone()))
            .request(&ask)
            .map_err(|why| match why {
                openidconnect::RequestTokenError::Request(_) => NotLetIn::Unreachable,
                _ => NotLetIn::NotTrue,
            })?;
        let word = token.id_token().ok_or(NotLetIn::NotTrue)?;
        let subject = self.with_keys(|metadata| {
            let client = self.client(metadata);
            let verifier = client.id_token_verifier();
            let claims = word.claims(&verifier, &Nonce::new(begun.nonce.clone())).ok()?;
            if let Some(expected) = claims.access_token_hash() {
                let (algorithm, key) = (word.signing_alg().ok()?, word.signing_key(&verifier).ok()?);
                let actual = AccessTokenHash::from_token(token.access_token(), algorithm, key).ok()?;
                (actual == *expected).then_some(())?;
            }
            Some(claims.subject().clone())
        })?;
        let mut claims = payload(&word.to_string()).ok_or(NotLetIn::NotTrue)?;
        // By its signed word alone.
        let second_factor = is_second_factor(&claims);
        let session = text(&claims, "sid").map(|sid| named(&self.config.issuer, &sid));
        // What the word itself does not say may be asked for with it; it is about the same subject, or refused.
        if text(&claims, "email").is_none() || self.roles_of(&claims).is_empty() {
            let client = self.client(&known.metadata);
            if let Ok(more) = client.user_info(token.access_token().clone(), Some(subject.clone())) {
                let more: UserInfoClaims<Claims, CoreGenderClaim> = more.request(&ask).map_err(|why| match why {
                    openidconnect::UserInfoError::Request(_) => NotLetIn::Unreachable,
                    _ => NotLetIn::NotTrue,
                })?;
                let Ok(Value::Object(said)) = serde_json::to_value(&more) else { return Err(NotLetIn::NotTrue) };
                let roles = self.config.role_claim.split('.').next().unwrap_or_default();
                let without = self.roles_of(&claims).is_empty();
                for (name, value) in said {
                    if without && name == roles {
                        claims.insert(name, value);
                    } else {
                        claims.entry(name).or_insert(value);
                    }
                }
            }
        }
        let own = claims.get("email_verified") != Some(&Value::Bool(false));
        let address = text(&claims, "email").filter(|address| own && address.contains('@'));
        let address = address.ok_or(NotLetIn::NoAddress)?;
        Ok(Identity {
            subject: named(&self.config.issuer, subject.as_str()),
            name: text(&claims, "name").or_else(|| text(&claims, "preferred_username")).unwrap_or(address.clone()),
            address,
            roles: self.roles_of(&claims),
            second_factor,
            session,
        })
    }

    fn logged_out(&self, token: &str) -> Result<LoggedOut, NotLetIn> {
        let (signed, signature) = token.rsplit_once('.').ok_or(NotLetIn::NotTrue)?;
        let (head, _) = signed.split_once('.').ok_or(NotLetIn::NotTrue)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| NotLetIn::NotTrue);
        let head: Map<String, Value> = serde_json::from_slice(&decode(head)?).map_err(|_| NotLetIn::NotTrue)?;
        let algorithm = head.get("alg").cloned().unwrap_or_default();
        let algorithm: CoreJwsSigningAlgorithm = serde_json::from_value(algorithm).map_err(|_| NotLetIn::NotTrue)?;
        // Signed with a key that the provider publishes; a secret that is shared, or none, says nothing.
        let symmetric = matches!(
            algorithm,
            CoreJwsSigningAlgorithm::HmacSha256
                | CoreJwsSigningAlgorithm::HmacSha384
                | CoreJwsSigningAlgorithm::HmacSha512
                | CoreJwsSigningAlgorithm::None
        );
        if symmetric {
            return Err(NotLetIn::NotTrue);
        }
        let (signature, kid) = (decode(signature)?, head.get("kid").and_then(Value::as_str));
        self.with_keys(|metadata| {
            let fits = |key: &&openidconnect::core::CoreJsonWebKey| {
                kid.is_none_or(|kid| key.key_id().is_some_and(|id| id.as_str() == kid))
            };
            let holds = |key: &openidconnect::core::CoreJsonWebKey| {
                key.verify_signature(&algorithm, signed.as_bytes(), &signature).is_ok()
            };
            metadata.jwks().keys().iter().filter(fits).any(holds).then_some(())
        })?;
        let claims = payload(token).ok_or(NotLetIn::NotTrue)?;
        let now = SystemClock.now().0 / 1000;
        let number = |name: &str| claims.get(name).and_then(Value::as_u64);
        let to_us = match claims.get("aud") {
            Some(Value::String(one)) => *one == self.config.client_id,
            Some(Value::Array(all)) => all.iter().any(|one| one == self.config.client_id.as_str()),
            _ => false,
        };
        let of_now = number("iat").is_some_and(|at| at.abs_diff(now) <= LOGOUT_AGE_S)
            && number("exp").is_none_or(|until| now < until + LOGOUT_AGE_S);
        let event = claims.get("events").and_then(|events| events.get(LOGOUT_EVENT)).is_some_and(Value::is_object);
        // With a nonce it would be a word by which somebody signs in.
        let is_logout = event && !claims.contains_key("nonce") && text(&claims, "jti").is_some();
        let issued = text(&claims, "iss").is_some_and(|issuer| issuer == self.config.issuer);
        let out = LoggedOut {
            subject: text(&claims, "sub").map(|subject| named(&self.config.issuer, &subject)),
            session: text(&claims, "sid").map(|sid| named(&self.config.issuer, &sid)),
        };
        if !(to_us && of_now && is_logout && issued) || out.subject.is_none() && out.session.is_none() {
            return Err(NotLetIn::NotTrue);
        }
        Ok(out)
    }
}

/// A provider's name for something is that provider's.
fn named(issuer: &str, name: &str) -> String {
    format!("{issuer}\n{name}")
}
