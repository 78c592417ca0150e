//! PEM, for keys as well: what is encoded is wiped when it is dropped.
//!
//! *Invariant:* nothing here knows what it encodes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Bytes between a label's armour.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(der));
    // Reserved in full: a buffer that grows would leave a copy behind.
    let mut pem = Zeroizing::new(String::with_capacity(
        text.len() + text.len() / 64 + 2 * label.len() + 64,
    ));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|&byte| char::from(byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// What is between a label's armour; `None` if the text has no such armour.
pub(crate) fn decode(label: &str, text: &[u8]) -> Option<Result<Vec<u8>, base64::DecodeError>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    Some(STANDARD.decode(body))
}
