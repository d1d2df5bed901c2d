//! A browser of the tests' own, and people who came in with one.

use super::http::{Reply, Server};

pub const FIRST: [(&str, &str); 2] = [("name", "Staff One"), ("address", "staff.one@shop.example")];
pub const PASSWORD: &str = "correct kettle lantern four";

/// A browser: it keeps its cookie, says where its forms are from, follows nothing.
pub struct Browser<'s> {
    pub server: &'s Server,
    pub cookie: Option<String>,
    /// Token of the forms of the last page.
    pub form_token: String,
}

pub fn encoded(fields: &[(&str, &str)]) -> String {
    let part = |text: &str| -> String {
        text.bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect()
    };
    fields.iter().map(|(name, value)| format!("{}={}", part(name), part(value))).collect::<Vec<_>>().join("&")
}

/// What stands in a page between two texts.
pub fn between<'p>(page: &'p str, before: &str, after: &str) -> Option<&'p str> {
    page.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

impl<'s> Browser<'s> {
    pub fn new(server: &'s Server) -> Browser<'s> {
        Browser { server, cookie: None, form_token: String::new() }
    }

    pub fn heard(&mut self, reply: Reply) -> Reply {
        if let Some(set) = reply.headers.get("set-cookie") {
            assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        if let Some(token) = between(&reply.text(), "name=\"form_token\" value=\"", "\"") {
            self.form_token = token.to_owned();
        }
        reply
    }

    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let host = self.server.address.to_string();
        let mut headers = vec![("Origin", format!("http://{host}")), ("User-Agent", "a test's browser".to_owned())];
        headers.extend(self.cookie.clone().map(|cookie| ("Cookie", cookie)));
        headers
    }

    pub fn get(&mut self, path: &str) -> Reply {
        let reply = self.server.send_to_host("GET", path, &self.headers(), b"");
        self.heard(reply)
    }

    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let token = self.form_token.clone();
        let all: Vec<(&str, &str)> = fields.iter().copied().chain([("form_token", token.as_str())]).collect();
        let mut headers = self.headers();
        headers.push(("Content-Type", "application/x-www-form-urlencoded".into()));
        let reply = self.server.send_to_host("POST", path, &headers, encoded(&all).as_bytes());
        self.heard(reply)
    }

    pub fn join(&mut self, link: &str, password: &str, who: &[(&str, &str)]) -> Reply {
        let fields: Vec<(&str, &str)> =
            who.iter().copied().chain([("password", password), ("password_again", password)]).collect();
        self.post(link, &fields)
    }

    pub fn sign_in(&mut self, address: &str, password: &str) -> Reply {
        self.post("/sign-in", &[("address", address), ("password", password)])
    }
}

/// The first administrator, come in.
pub fn first(server: &Server) -> Browser<'_> {
    let mut browser = Browser::new(server);
    let joined = browser.join(&server.first_link(), PASSWORD, &FIRST);
    assert_eq!((joined.status, joined.headers["location"].as_str()), (303, "/look"), "{}", joined.text());
    browser.get("/users");
    browser
}

/// Somebody invited by the first one, come in.
pub fn invited<'s>(admin: &mut Browser<'s>, name: &str, address: &str, role: &str) -> Browser<'s> {
    let fields = [("name", name), ("address", address), ("roles", role), ("change_reference", "CH-1")];
    let page = admin.post("/users/invite", &fields);
    assert_eq!(page.status, 200, "{}", page.text());
    let link = format!("/join/{}", between(&page.text(), "/join/", "<").expect("a link"));
    let mut browser = Browser::new(admin.server);
    assert_eq!(browser.join(&link, PASSWORD, &[]).status, 303);
    browser.get("/look");
    browser
}
