//! A proxy before a server that loses answers and holds others back, by their number.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Of so many answers one is lost after the server gave it.
const LOST: u64 = 7;
/// Of so many answers one is held back for longer than anybody waits.
const HELD: u64 = 11;

/// See the module.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    answers: Arc<AtomicU64>,
}

impl Proxy {
    /// One before `to`, which holds answers back for `held`.
    pub(crate) fn start(to: SocketAddr, held: Duration) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answers = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answers);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(to) else { continue };
                let (Ok(mut from), Ok(mut into)) = (client.try_clone(), server.try_clone()) else { continue };
                std::thread::spawn(move || std::io::copy(&mut from, &mut into));
                let count = Arc::clone(&count);
                std::thread::spawn(move || answer(server, client, &count, held));
            }
        });
        Proxy { address, answers }
    }

    /// Answers that were lost, and that were held back.
    pub(crate) fn lost(&self) -> (u64, u64) {
        let answers = self.answers.load(Ordering::Relaxed);
        (answers / LOST, answers / HELD)
    }
}

fn answer(mut server: TcpStream, mut client: TcpStream, count: &AtomicU64, held: Duration) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length) = server.read(&mut bytes)
        && length > 0
    {
        if bytes.starts_with(b"HTTP/1.1 ") {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            if number.is_multiple_of(LOST) {
                break;
            }
            if number.is_multiple_of(HELD) {
                std::thread::park_timeout(held);
            }
        }
        if client.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}
