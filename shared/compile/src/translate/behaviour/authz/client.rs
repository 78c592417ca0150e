//! Clients that send what they are told, byte for byte, over HTTP/1.1 and HTTP/2: a library would put it right.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A request as it goes out.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) method: &'static str,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Sent {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            host: "shop.example".into(),
            path: path.into(),
            headers: Vec::new(),
        }
    }

    pub(super) fn host(self, host: &str) -> Self {
        Self {
            host: host.into(),
            ..self
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// The whole answer over HTTP/1.1.
pub(super) fn http1(address: &str, sent: &Sent) -> String {
    let mut stream = connect(address);
    let headers: String = sent
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let request = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n",
        sent.method, sent.path, sent.host
    );
    stream.write_all(request.as_bytes()).unwrap();
    whole(&mut BufReader::new(stream))
}

/// One answer; Envoy may take its time to close the connection after it.
fn whole(reader: &mut impl BufRead) -> String {
    let (mut head, mut body) = (String::new(), Vec::new());
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return head;
        }
    }
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length
        .next()
        .map_or(0, |(_, length)| length.trim().parse().unwrap());
    let _ = reader.take(length).read_to_end(&mut body);
    head + &String::from_utf8_lossy(&body)
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// The body of the answer over HTTP/2 (RFC 9113).
pub(super) fn http2(address: &str, sent: &Sent) -> String {
    let mut stream = connect(address);
    let mut block = Vec::new();
    let pseudo = [
        (":method", sent.method),
        (":scheme", "http"),
        (":authority", sent.host.as_str()),
        (":path", sent.path.as_str()),
    ];
    let headers = sent
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in pseudo.into_iter().chain(headers) {
        // A literal without indexing, name and value as they are (RFC 7541, 6.2.2).
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut request, SETTINGS, 0, 0, &[]);
    frame(&mut request, HEADERS, END_STREAM | 4, 1, &block);
    stream.write_all(&request).unwrap();
    let mut body = Vec::new();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let size = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; size];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        let (kind, flags) = (head[3], head[4]);
        if kind == DATA {
            body.extend(payload);
        }
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if ends || kind == RST_STREAM || kind == GOAWAY {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// An integer of 7 bits and more (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(length as u8);
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let size = (payload.len() as u32).to_be_bytes();
    out.extend(&size[1..]);
    out.extend([kind, flags, 0, 0, 0, stream]);
    out.extend(payload);
}
