//! Single sign-on at the running binary: with the real provider of npm, and with one that lies. `CANDOR_NODE_MODULES` is
//! where `cargo xtask ci` put the provider.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::browser::{Browser, between, encoded, first};
use support::http::{Reply, Server, read_reply};
use support::{bad, folder, good, lines};

struct Node(Child, SocketAddr);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn node(arguments: &[&str], address: SocketAddr) -> Node {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/provider.mjs");
    let mut child = Command::new("node")
        .arg(script)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("node runs: .ci/run installs it");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert!(said.any(|line| line.is_ok_and(|line| line == "ready")), "the provider did not start");
    // It warns of this and that: somebody must listen.
    std::thread::spawn(move || said.for_each(drop));
    Node(child, address)
}

/// One request; a browser's cookies go along and are kept.
fn ask(address: SocketAddr, method: &str, path: &str, jar: &mut BTreeMap<String, String>, form: &str) -> Reply {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nUser-Agent: a test's browser\r\nAccept: text/html\r\n"
    );
    if !cookies.is_empty() {
        head.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
    }
    if method == "POST" {
        let length = form.len();
        head.push_str(&format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\nOrigin: http://{address}\r\n"
        ));
    }
    stream.write_all(format!("{head}\r\n{form}").as_bytes()).expect("sent");
    let reply = read_reply(stream);
    for set in reply.headers.get("set-cookie").map(String::as_str).unwrap_or_default().lines() {
        let (name, rest) = set.split_once('=').expect("a cookie");
        let value = rest.split(';').next().unwrap_or_default();
        let gone = set.contains("Max-Age=0") || set.to_ascii_lowercase().contains("expires=thu, 01 jan 1970");
        if gone {
            jar.remove(name)
        } else {
            jar.insert(name.to_owned(), value.to_owned())
        };
    }
    reply
}

/// The part of an address after its host.
fn path_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    if url.starts_with('/') {
        url.to_owned()
    } else {
        format!("/{}", rest.split_once('/').map_or("", |(_, path)| path))
    }
}

struct Deployment {
    server: Server,
    provider: Node,
}

fn configure(data: &Path, address: SocketAddr, provider: SocketAddr, more: &str) {
    std::fs::write(data.join("oidc.secret"), "not-a-secret\n").expect("written");
    let config = format!(
        "public_url = \"http://{address}\"\n[oidc]\nname = \"Shop\"\nissuer = \"http://{provider}\"\nclient_id = \"candor\"\n\
         client_secret_file = \"oidc.secret\"\n{more}[oidc.roles]\ndesk = [\"customer_service\"]\ncompliance = [\"compliance_officer\"]\n\
         [sources.local]\n"
    );
    std::fs::write(data.join("candor.toml"), config).expect("written");
}

impl Deployment {
    fn real(data: &Path) -> Deployment {
        let modules = std::env::vars().find(|(name, _)| name == "CANDOR_NODE_MODULES");
        let (_, modules) = modules.expect("CANDOR_NODE_MODULES: `cargo xtask ci` sets it");
        let (address, at) = (Server::free_port(), Server::free_port());
        let port = at.port().to_string();
        let (back, out) =
            (format!("http://{address}/sign-in/sso/back"), format!("http://{address}/sign-in/sso/logout"));
        let provider = node(&[&modules, &port, &back, &out], at);
        good(&["init", "--data", data.to_str().expect("UTF-8")]);
        configure(data, address, at, "");
        Deployment { server: Server::start_at(data, address), provider }
    }

    /// Signs somebody in; the last page, the browser's cookies here, and those at the provider.
    fn sign_in(&self, account: &str) -> (Reply, BTreeMap<String, String>, BTreeMap<String, String>) {
        let (mut own, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        ask(self.provider.1, "GET", &format!("/as?account={account}"), &mut theirs, "");
        let sent = ask(self.server.address, "GET", "/sign-in/sso", &mut own, "");
        assert_eq!(sent.status, 303, "{}", sent.text());
        let set = &sent.headers["set-cookie"];
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        let mut at = sent.headers["location"].clone();
        for _ in 0..6 {
            let reply = if at.contains("/sign-in/sso/back") {
                return (ask(self.server.address, "GET", &path_of(&at), &mut own, ""), own, theirs);
            } else {
                ask(self.provider.1, "GET", &path_of(&at), &mut theirs, "")
            };
            at = reply.headers.get("location").unwrap_or_else(|| panic!("{}", reply.text())).clone();
        }
        panic!("no way back: {at}");
    }
}

#[test]
fn the_real_provider_lets_people_in_gives_roles_and_signs_them_out() {
    let folder = folder();
    let data = folder.path().join("trail");
    let mut it = Deployment::real(&data);
    let page = ask(it.server.address, "GET", "/sign-in", &mut BTreeMap::new(), "");
    assert!(page.text().contains("Sign in with Shop"), "{}", page.text());
    let (page, mut own, mut theirs) = it.sign_in("desk");
    assert!(page.status == 200 && page.text().contains("You are signed in"), "{} {}", page.status, page.text());
    assert!(page.headers["set-cookie"].contains("SameSite=Strict"), "{}", page.headers["set-cookie"]);
    let page = ask(it.server.address, "GET", "/look", &mut own, "");
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(ask(it.server.address, "GET", "/users", &mut own, "").status, 403);
    // The same person again, with another role; the same account.
    ask(it.provider.1, "GET", "/as?account=desk&groups=compliance", &mut BTreeMap::new(), "");
    let (_, mut again, _) = it.sign_in("desk");
    assert_eq!(ask(it.server.address, "GET", "/cases", &mut again, "").status, 200);
    // Without a role, and with the address of an account that has a password, nobody comes in.
    let (page, own_nobody, _) = it.sign_in("nobody");
    assert!(page.status == 403 && page.text().contains("gives you no role"), "{}", page.text());
    assert!(!own_nobody.contains_key("candor_session"));
    let mut admin = first(&it.server);
    let (page, _, _) = it.sign_in("taken");
    assert!(page.status == 403 && page.text().contains("an administrator ends it"), "{}", page.text());
    // The way back works once, and in the browser that was sent alone.
    let mut jar = BTreeMap::new();
    let sent = ask(it.server.address, "GET", "/sign-in/sso", &mut jar, "");
    let state = between(&sent.headers["location"], "state=", "&").expect("a state").to_owned();
    let back = format!("/sign-in/sso/back?code=x&state={state}");
    assert_eq!(ask(it.server.address, "GET", &back, &mut BTreeMap::new(), "").status, 403, "another browser");
    let refused = ask(it.server.address, "GET", &back, &mut jar, "");
    assert!(
        refused.status == 403 && refused.text().contains("does not hold"),
        "a code that is none: {}",
        refused.text()
    );
    assert_eq!(ask(it.server.address, "GET", &back, &mut jar, "").status, 403, "it was used");
    // An administrator can suspend them, and not change what the provider says.
    let page = admin.get("/users").text();
    let id = between(&page, "desk@shop.example</td><td><code>", "<").expect("an id").to_owned();
    let change = |admin: &mut Browser<'_>, step: &str| {
        let fields = [("user", id.as_str()), ("step", step), ("roles", "board"), ("change_reference", "CH-1")];
        admin.post("/users/change", &fields).status
    };
    assert_eq!((change(&mut admin, "roles"), change(&mut admin, "link")), (400, 400));
    // Signed out at the provider: out here too, in each session that began there.
    assert_eq!(ask(it.server.address, "GET", "/look", &mut own, "").status, 200);
    let page = ask(it.provider.1, "GET", "/session/end", &mut theirs, "");
    let xsrf = between(&page.text(), "name=\"xsrf\" value=\"", "\"").expect("a form").to_owned();
    let form = encoded(&[("xsrf", &xsrf), ("logout", "yes")]);
    let page = ask(it.provider.1, "POST", "/session/end/confirm", &mut theirs, &form);
    assert!(page.status < 400, "{}", page.text());
    assert_eq!(ask(it.server.address, "GET", "/look", &mut own, "").headers["location"], "/sign-in");
    assert_eq!(ask(it.server.address, "GET", "/look", &mut again, "").status, 200, "another session at the provider");
    // Who has no role any more is out where they are signed in still, and comes back with one.
    ask(it.provider.1, "GET", "/as?account=desk&groups=x", &mut BTreeMap::new(), "");
    assert_eq!(it.sign_in("desk").0.status, 403);
    assert_eq!(ask(it.server.address, "GET", "/look", &mut again, "").status, 303);
    ask(it.provider.1, "GET", "/as?account=desk&groups=compliance", &mut BTreeMap::new(), "");
    assert_eq!(it.sign_in("desk").0.status, 200);
    assert_eq!(change(&mut admin, "suspend"), 200);
    let (page, ..) = it.sign_in("desk");
    assert!(page.status == 403 && page.text().contains("suspended"), "{}", page.text());
    // Over a restart they are who they were; who has left does not come back anew.
    assert_eq!(change(&mut admin, "resume"), 200);
    let address = it.server.address;
    assert!(it.server.stop());
    it.server = Server::start_at(&data, address);
    let (page, ..) = it.sign_in("desk");
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(it.server.stop());
    let text = data.to_str().expect("UTF-8");
    good(&["user", "end", &id, "--reference", "CH-2", "--data", text]);
    it.server = Server::start_at(&data, address);
    let (page, ..) = it.sign_in("desk");
    assert!(page.status == 403 && page.text().contains("has ended"), "{}", page.text());
    assert!(it.server.stop());
    let started = lines(&good(&["search", "--kind", "SESSION_STARTED", "--json", "--data", text]));
    let of_sso = started.iter().filter(|line| line["record"]["login_method"] == "sso").count();
    assert_eq!(of_sso, 4);
    let changed = good(&["search", "--kind", "USER_CHANGED", "--json", "--data", text]);
    assert!(
        lines(&changed)
            .iter()
            .any(|line| line["record"]["actor"] == "single-sign-on" && line["record"]["change"] == "roles")
    );
}

#[test]
fn a_provider_that_lies_lets_nobody_in_and_sends_this_server_nowhere() {
    let folder = folder();
    let data = folder.path().join("trail");
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("set");
    let (address, at) = (Server::free_port(), Server::free_port());
    let away = format!("http://{}", elsewhere.local_addr().expect("an address"));
    let provider = node(&["lies", &at.port().to_string(), "candor", &away], at);
    good(&["init", "--data", data.to_str().expect("UTF-8")]);
    configure(&data, address, at, "");
    let set = |lie: &str| {
        let path = format!("/set?{}", encoded(&[("lie", lie)]));
        assert_eq!(ask(provider.1, "GET", &path, &mut BTreeMap::new(), "").text(), "set");
    };
    // What it says of itself. Nothing of it is kept, so each is asked anew.
    let server = Server::start_at(&data, address);
    for lie in ["auth elsewhere", "jwks elsewhere", "redirect", "large", "no json", "other issuer"] {
        set(lie);
        // For a second it is not asked again.
        std::thread::park_timeout(Duration::from_millis(1100));
        let page = ask(address, "GET", "/sign-in/sso", &mut BTreeMap::new(), "");
        assert!(page.status == 502 && page.text().contains("be reached now"), "{lie}: {} {}", page.status, page.text());
    }
    assert!(server.stop());
    // Its word, and where it sends for it.
    let begin = |lie: &str| {
        set(lie);
        let mut jar = BTreeMap::new();
        let sent = ask(address, "GET", "/sign-in/sso", &mut jar, "");
        assert_eq!(sent.status, 303, "{lie}: {}", sent.text());
        let to = &sent.headers["location"];
        let part =
            |name: &str| between(to, name, "&").unwrap_or_else(|| to.split_once(name).expect("there").1).to_owned();
        let nonce = part("nonce=");
        ask(provider.1, "GET", &format!("/nonce?nonce={nonce}"), &mut BTreeMap::new(), "");
        let back = format!("/sign-in/sso/back?code=c&state={}", part("state="));
        (ask(address, "GET", &back, &mut jar, ""), jar)
    };
    for lie in ["token elsewhere", "me elsewhere"] {
        set(lie);
        let server = Server::start_at(&data, address);
        let (page, jar) = begin(lie);
        // Where the word itself says enough, nothing else is asked for.
        let expected = if lie == "me elsewhere" { 200 } else { 502 };
        assert_eq!(page.status, expected, "{lie}: {}", page.text());
        assert_eq!(jar.contains_key("candor_session"), expected == 200);
        assert!(server.stop());
    }
    set("");
    let server = Server::start_at(&data, address);
    for lie in [
        "another key",
        "no signature",
        "another audience",
        "another issuer",
        "another nonce",
        "no nonce",
        "over",
        "another token",
        "shared secret",
        "address not verified",
        "another subject",
        "no role",
    ] {
        // The way to it is right; the lie is in what comes then.
        let (page, jar) = begin(lie);
        assert_eq!(page.status, 403, "{lie}: {}", page.text());
        assert!(!jar.contains_key("candor_session"), "{lie}");
        assert!(!page.text().contains("liar@"), "{lie}: {}", page.text());
        // Each counts as a guess from here; a right one takes them back.
        let (page, _) = begin("");
        assert_eq!(page.status, 200, "after {lie}: {}", page.text());
    }
    // Signing out: by its right word alone.
    let (_, mut jar) = begin("");
    let out = |lie: &str| {
        set(lie);
        let token = ask(provider.1, "GET", "/logout-token", &mut BTreeMap::new(), "").text();
        ask(address, "POST", "/sign-in/sso/logout", &mut BTreeMap::new(), &encoded(&[("logout_token", &token)])).status
    };
    for lie in [
        "another key",
        "no signature",
        "another audience",
        "old",
        "a nonce",
        "no event",
        "nobody named",
        "another issuer",
    ] {
        assert_eq!(out(lie), 400, "{lie}");
        assert_eq!(ask(address, "GET", "/look", &mut jar, "").status, 200, "{lie}");
    }
    assert_eq!(out("right"), 200);
    assert_eq!(ask(address, "GET", "/look", &mut jar, "").status, 303);
    assert!(server.stop());
    assert!(elsewhere.accept().is_err(), "nothing was sent anywhere else");
    // What is configured wrongly is said at the start.
    let said = |issuer: &str, more: &str| {
        configure(&data, address, at, more);
        let config = std::fs::read_to_string(data.join("candor.toml")).expect("read");
        std::fs::write(data.join("candor.toml"), config.replace(&format!("http://{at}"), issuer)).expect("written");
        bad(1, &["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().expect("UTF-8")])
    };
    assert!(said("http://login.shop.example", "").contains("issuer must be https"));
    assert!(said("https://login.shop.example", "ca_file = \"none.pem\"\n").contains("none.pem"));
}
